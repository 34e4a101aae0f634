//! The policy file: YAML or JSON in, a compiled [`Bundle`] out. Every configuration error is raised here.
//!
//! ```text
//!    text ──tree──▶ nodes with places ──document──▶ as written ──compile──▶ Bundle
//! ```
//!
//! Each step notes its faults and goes on, so that one run reports them all, each with its place, a code and
//! a help line ([`Diagnostic`]). The language is strict: it accepts only what is enforced, and a rule that
//! could not take effect is an error. `tests/diagnostics/` shows every refusal.
//!
//! An update that takes the place of a running policy has to [follow](succession) it too.
//!
//! # The whole language
//!
//! A test compiles this block. What is marked *optional* may be left out.
//!
//! ```yaml
//! farebox: 1                           # the version of this format
//! bundle: {name: acme-ai, version: 2026-11-25, mode: enforce}   # counters are kept under the name; `mode` is optional:
//!                                      # `observe` decides and reports quotas, and refuses nothing for their sake
//! zone: Asia/Shanghai                  # optional, UTC: where days, weeks, months and terms begin
//! envoy: {headers: held}               # optional, held: how the host hands over headers; `first`: no tier or region can be set
//! identity:                            # who says whose call it is. All that say something must name one seat, in the order
//!                                      # written; two names are refused, and so is a name that is no seat
//!   - {key: [authorization, x-api-key]}   # headers that may carry a key; in authorization it follows `Bearer `
//!   - {jwt: payload, seat: sub}        # optional: a claim, whose value is the seat's name, of a token that `jwt_authn` in
//!                                      # front has verified, with `payload_in_metadata: payload` and `forward: false`
//!   - {san: uri, seat: "spiffe://acme.test/seat/*", unreadable: deny}   # optional: the first URI (or `dns` name) of the
//!                                      # peer's certificate, of which `*` is the seat; another one says nothing. Envoy must
//!                                      # verify it (`trusted_ca`). `unreadable`, for `jwt` too: deny, the default, or ignore
//!   - {header: x-user, seat: "*", from: [10.0.0.5]}   # optional: a header in which a proxy in front names the seat. It is
//!                                      # believed on connections from there, by the address of the connection itself, and
//!                                      # goes no further; what comes from elsewhere, or twice, is `unreadable`
//! session: [x-claude-code-session-id]  # optional: headers that group calls, the first that is there. Quotas `per: session`,
//!                                      # `repeats` and guesses at what a cache holds go by it. Nobody vouches for it, and
//!                                      # there is no end of sessions: those of a seat share 64 accounts, and calls without
//!                                      # one have an account of their own. So a quota may be full a little early, when two
//!                                      # sessions meet in one account; and a seat has it 65 times at most
//! balance: /v1/farebox/balance         # optional: where a `GET` with a key is told how the quotas of that key stand
//! network: {trusted_proxies: 0}        # optional, 0 to 16: proxies in front that append to x-forwarded-for
//! models:                              # exact name, else the longest glob, else refused; case counts
//!   demo-small:                        # credits per 1,000 tokens, up to nine places
//!     count: o200k_base                # or cl100k_base
//!     credits: {input: 1, cache_read: 0.1, cache_write: 1.25, cache_write_1h: 2, output: 4, reasoning: 4}   # cached: optional,
//!                                      # as input; kept for an hour: as cache_write; reasoning: as output. By the piece: request, prompt, tool_call,
//!                                      # image, character, second
//!     money: {currency: CNY, per: 1m tokens, input: 2, output: 8}   # optional; `per` too: 1, 1000 or 1m tokens
//!     speaks: [openai chat, anthropic messages, embeddings]   # optional: the APIs it is served by; all. An API is named
//!                                      # by what is asked for (as in `endpoints`) or by its wire format (as in records)
//!     regions: [eu, us]                # optional: where it is served, for plans that have `regions`
//!     factor:                          # optional: what its calls weigh in credits, money and weighted units; the first
//!       - {factor: 3, times: 14:00-18:00, days: [mon, fri], zone: Asia/Shanghai}   # line that applies; else 1
//!       - {factor: 0.5, from: 2026-11-01, until: 2026-12-01, api: openai responses}   # `until` is outside
//!       - {factor: 1, api: embeddings}   # in whatever wire format
//!       - {factor: 2, above: 200000 tokens}   # for longer inputs
//!   demo-latest: {alias: demo-small}   # another name of the same
//!   demo-*: {count: cl100k_base, credits: 0, money: 0, regions: [eu]}   # free; optional where no quota is in credits or money
//! dropped: [trial, team/weekly]        # optional: plans and quotas that were here, and are gone on purpose
//! plans:
//!   team@2026-11:                      # `@version` is optional: plans of one name share their counters. What it says
//!                                      # never changes; other terms are another version
//!     was: squad                       # optional: the name it had, under which its counters go on
//!     tokens:                          # all parts of a plan are optional
//!       funds:                         # who pays, in this order; those in one unit pay a call together, and hold alike;
//!                                      # any window but bucket, sliding, concurrent. `m` million, `b` billion
//!         # optional: `rollover`, what goes over of what is unused, else it lapses; `was`, the name it had, under which its
//!         # counters go on; `hold: expected`, for agents that send a long prompt again and again: held is what calls of the
//!         # model lately came to, cached input at its price, and not the worst. The fund may be passed by what a call needs
//!         # beyond that: `farebox explain` says how far. What a call comes to beyond what is held, those behind it pay too, as
//!         # far as they have it; the rest is a debt of the last that begins anew
//!         dedicated: {amount: 2000 credits, per: seat, window: calendar month, rollover: 500 credits, hold: expected}
//!         month: {amount: 1.5m credits, per: org, window: calendar month, was: monthly, hold: expected}
//!         top-ups: {from: packs, unit: credits, per: org}   # the account's packs, soonest end first
//!       empty: [downgrade demo-free, overage 1000 credits, deny]   # optional: what happens when no fund can pay, in turn:
//!                                      # what a step cannot do the next one does. An overage is a debt, which the windows
//!                                      # after it pay before anything is spent there. Of the funds that take the call's
//!                                      # model it is borne by the last in its unit that begins anew (no pack, no term, no
//!                                      # lifetime); where none takes the model the next step is tried
//!       caps:                          # how fast: all must hold. Units: tokens, alone or input, output, fresh, uncached,
//!                                      # cache read, cache write, reasoning, weighted; requests, weighted requests;
//!                                      # prompts, weighted prompts; tool calls; images; characters; seconds; credits; a currency such as CNY.
//!                                      # Films and songs by the piece are requests of their `models`
//!         in-5h: {limit: 20000 input tokens, per: seat, window: first-use 5h}   # opens with the first call
//!         pace:  {limit: 200000 fresh tokens, per: seat, window: bucket 1m, burst: 400000 fresh tokens, hold: expected,
//!                 full: [wait 5s, throttle 2 requests per 1m, deny]}   # refills steadily; `hold`: the worst, or as in
//!                                      # funds what is expected; `full`: as `empty`; also `observe`. Beyond a throttle's
//!                                      # pace the step behind it is tried; a `wait` there is for the pace too
//!         large: {limit: 50 weighted requests, per: seat, window: calendar month, models: ["demo-l*"]}   # only their calls
//!         short: {limit: 1200 requests, per: seat, window: first-use 5h, of: month, full: [next fund]}   # `of`: only calls
//!                                      # that this fund pays a part of; `next fund`: then those behind it pay
//!         turns: {limit: 80 prompts, per: seat, window: first-use 5h}   # a call that ends with a tool's result begins none
//!         run:   {limit: 1000 requests, per: session, window: first-use 5h}     # needs `session`
//!         tries: {limit: 2000 requests, per: seat, window: calendar day, rejected: count}   # also calls that are refused,
//!                                      # as long as there are any; optional, `free`: they cost nothing
//!         live:  {limit: 4 requests, per: seat, window: concurrent}             # what runs at this moment
//!         # minute, hour, day, week, month or year; a week from monday unless it says; in the file's zone unless it says.
//!         # `anniversary month` and `anniversary year` count from the day that `assign` names
//!         week:  {limit: 9000 requests, per: seat, window: calendar week from sunday in America/New_York}
//!         hour:  {limit: 90000 tokens, per: seat, window: sliding 1h}           # never more than this in any hour
//!         trial: {limit: 30m tokens, per: org, window: term 2026-11-01 until 2027-11-01}   # days, or RFC 3339 moments
//!         ever:  {limit: 1b tokens, per: org, window: lifetime}                 # one window that never ends
//!       prompts: {continued: 0.05 prompts}   # optional, 0: what a call counts that begins no turn. The call itself says whether
//!                                      # it does, and not its session or the time since the last: where a vendor takes
//!                                      # some 15 calls for one prompt, that is `continued: 0.07 prompts`
//!       warn: {at: [50, 80, 100], headers: true}   # optional: percents of a quota that records note when they are reached,
//!                                      # in each window once, in a sliding one whenever it fills up to there again; not of
//!                                      # buckets and running calls. `headers`: whether answers tell how the quotas stand
//!       prices: sealed                 # optional, of a plan with a version: what it is charged by stays as it was sold, or
//!                                      # `open`: it follows the price list of `models`
//!       price: requested               # optional: whose price is paid where another model answers than was asked:
//!                                      # `requested`, the default, `served`, or the `dearer` one
//!       round: 0.01                    # optional: credits and money are rounded up to a multiple of this, once a call
//!       hold:                          # optional, as are its keys; these are the defaults
//!         unstated_output: 1024        # output tokens assumed where the call states no limit
//!         shrink_to: 16                # a limit is never clamped below this
//!         share: fair                  # where others hold of an account, or it has less than a call asks for, that call has
//!                                      # its limit lowered to half of what is left, so that there is something for those
//!                                      # who come; not below four times what calls of its model lately wrote, nor
//!                                      # `unstated_output`, so that answers seldom end early for it. A call that is alone
//!                                      # there and fits gets what it asks for. Not where the expected size is held, a
//!                                      # stream is held in slices, or the window is a bucket. `all`: whoever comes first
//!                                      # may have all that is left
//!         # `assume_input: 200000`: input tokens held of a call that points at what cannot be read: a file, the URL of an
//!         # image, a kept conversation, a provider's own tool. Without that such a call is refused where its input counts;
//!         # so is work in the background, where what it writes counts too. Admitted, it is charged what is held
//!         count: needed                # a new prompt above 16 KiB is counted where that can change what happens to it, or
//!                                      # when its provider does not say its tokens; where there is ample room only a
//!                                      # bound is held. `always`: each is counted before it is admitted
//!         stream: full                 # a stream holds all of its limit; or `slices` of `slice: 512` output tokens, one
//!                                      # after the other. Where the next cannot be had it ends as its dialect ends at
//!                                      # a limit: with `cut: clean` the rest is swallowed, with `stop` the upstream is
//!                                      # broken off; `grace: 64` tokens, held too, let a call of a tool end
//!         lost: charge                 # what a call costs whose VM died: all held, or what was `delivered`
//!         aborted: delivered           # by the client; what was delivered, `nothing`, the `input`, all of the limit
//!                                      # (`held`), or at least a pace: `50 tokens a second` since admission
//!         no_response: input           # the same for a reset or a timeout before the response,
//!         upstream_error: nothing      # an answer of 4xx or 5xx,
//!         error_inside: delivered      # an error in a 200,
//!         cut_by_upstream: delivered   # an answer that breaks off
//!         failed_try: nothing          # where calls are tried again (`retry`), each try that failed before the last; or `input`:
//!                                      # then the prompt is held once for every try, and charged once for each there was
//!     connectivity:
//!       sources: [10.0.0.0/8, "fd00::/8"]   # optional, any: networks and addresses the caller may have
//!       denied_sources: [10.9.0.0/16]  # optional: and those it may not have, which beats `sources`
//!       hours: [{times: 08:00-18:00, days: [mon, fri], zone: Europe/Berlin}]   # optional, always: bands of hours, days or
//!                                      # both, by the clocks on the wall; over midnight a band belongs to its first day
//!       hosts: [llm.acme.test, "*.ai.acme.test"]   # optional, any, as are the next two: in any case and without port; a
//!                                      # request that names two hosts needs both
//!       paths: ["/v1/*"]               # without query, case counts; however a server may read it, decoded or resolved
//!       methods: [POST, GET]
//!       keys: [tp-]                    # optional, any: what the key of a call begins with; one without a key is refused then
//!       request: {largest: 1 MiB}      # optional: by content-length before the body is read, else as soon as it is more
//!       response:                      # optional, as are its keys
//!         largest: 4 MiB               # in bytes as they come: a stream ends as at a length limit, a document is an error
//!                                      # in its place; an event above 1 MiB does not pass then
//!         first_token: 60s             # from admission until the first token of a stream, thoughts included, or the first
//!                                      # byte of anything else; later it is an error 504 in the caller's dialect. Until
//!                                      # then the headers of a stream are held
//!         idle: 30s                    # without a byte, once headers came: the answer is broken off. A stream cannot be
//!                                      # ended otherwise, because a host sends something only in the place of what comes
//!         duration: 15m                # from admission until the end: a stream ends as at a length limit, and is broken
//!                                      # off. With this or `idle` a JSON document is held until it is whole, so that it
//!                                      # is an error 504 too. All three from 200ms to 1d, told to 100 ms; what a caller
//!                                      # takes too slowly is late as well
//!       streaming: required            # optional: or `forbidden`
//!       tier: gold                     # optional: x-farebox-tier on the request that goes upstream
//!       regions: [eu, us]              # optional: calls go only to models that are served in one of these, else they are
//!                                      # refused; x-farebox-region tells Envoy's routes the first of them that the model has.
//!                                      # A place that stands in a path (a Vertex location, an ARN) is not read: `paths` keep it
//!       retry:                         # optional: what Envoy tries again, before any of an answer has left: by statuses, and by
//!                                      # its own words connect-failure, refused-stream, reset-before-request, reset (none came:
//!                                      # broken off, not connected, late), gateway-error (that or 502 to 504), 5xx (that or 500
//!                                      # to 599). `tries`: in all, 2 to 10; the default is 2. `each`: until the headers of its
//!                                      # answer, 200ms to 1d; needs reset, gateway-error or 5xx. It pauses for 25 to 250 ms
//!                                      # between two, or as the route's `retry_policy` says. `first_token` and `duration` are
//!                                      # for all tries together. A status that a later try puts right lets no model rest
//!         {on: [connect-failure, 429, 503], tries: 3}
//!       fallback:                      # optional: once an answer was 429, 503 or 529, or no upstream could be reached,
//!                                      # calls that follow go to another model, as after a downgrade, for as long as its
//!                                      # `retry-after` says, up to `longest`, else `for`; these are the defaults. The call
//!                                      # that failed keeps its answer. What is learned holds for all workers of an Envoy, for
//!                                      # one region and tier. `to` may be a model that callers may not ask for (`models`)
//!         - {models: [demo-large], to: demo-free, for: 30s, longest: 5m}
//!       observe: [sources, hours]      # optional: rules of this half that only observe: what they would refuse is counted
//!                                      # and in the record (`passed`), and goes on
//!     security:
//!       models: ["demo-*"]             # optional, all: names and globs that may be asked for; an alias is what it stands for,
//!                                      # unless it is itself listed. Or `{allow: […], deny: ["*-large"]}`: what is denied beats
//!                                      # what is allowed, by an alias or by what it stands for, in any case of its letters. What
//!                                      # the policy itself sends calls to is not asked for. Or `force_model: demo-small`: every call goes to that one,
//!                                      # whatever it asks for, at its price; one whose path names another is refused
//!       endpoints: {allow: [chat, responses, embeddings, count]}   # optional, any: or `deny`. Also completions,
//!                                      # moderations, rerank, images, audio, predict (Bedrock's and Vertex's own bodies) and
//!                                      # other (paths that no dialect knows)
//!       modalities: [text, image]      # optional, any: what a prompt may hold; also audio, video, file
//!       images: {most: 20, largest: 5 MiB, pixels: 16000000}   # optional, as are its keys: how many a call may have, masks,
//!                                      # frames and those that it only points at too; bytes, and width times height, of each.
//!                                      # How large one is that is not in the body, or tells no size, goes by `on_error`
//!       tools:                         # optional, as are its keys: functions by name; tools that providers run by one name
//!                                      # for all of them, such as `web_search`, `web_fetch`, `code_execution`, `file_search`,
//!                                      # `image_generation`, `computer`, `shell` (all: the table in `meter::built_in`), or by
//!                                      # their own kind, with or without its date. `deny` beats `allow`, in any case. Binds
//!                                      # what a call offers, what comes with its model (`sonar`, `…:online`), what its
//!                                      # conversation tells of tools that ran elsewhere, and what the answer calls or has
//!                                      # used: a stream ends before that, a document is an error in its place. A caller may
//!                                      # call a tool what they like: only `allow` binds one who means ill
//!         allow: ["get_*", bash]
//!         deny: ["mcp__*__delete"]
//!         servers: {allow: ["https://mcp.acme.test/*"], deny: ["*/admin"], credentials: pass}   # MCP, by address, or by
//!                                      # label where there is none; with `tools.allow` no other server passes, and one that
//!                                      # does has all its tools. `deny` takes some of them by their name, or with the label
//!                                      # of their server, `mcp__LABEL__NAME`; where `allow` names any so (`mcp__*__read`), it
//!                                      # binds them all, and a call must list those that it may use (`allowed_tools`).
//!                                      # `credentials: deny` refuses tokens and headers that a call hands over for them;
//!                                      # where they may be, `input` leaves them as they are and counts `unchanged`
//!         most: 64                     # how many may be offered
//!       system_prompt: required        # optional: or `{pinned: "Answer in rhymes."}`: just this, once, and no other
//!       headers: {strip: [x-internal-*], require: [x-team]}   # optional: off the request that goes upstream, and off its
//!                                      # trailers; and those that must be there, once and not empty
//!       repeats: {most: 20, within: 1m, slow: 2s}   # optional: of one caller, and session if it names one, the same call byte
//!                                      # for byte so often from the first on; a further one is slowed down by `slow`, or
//!                                      # refused where there is none. Each worker of Envoy counts for itself, the last
//!                                      # 4,096 calls that differ. How many calls and tokens a session has: caps `per: session`
//!       loops: {most: 10}              # optional, with or without `slow`: the same tool, called with the same arguments, so
//!                                      # often in the conversation that is sent
//!       clients: {allow: ["claude-cli/*", "codex*"]}   # optional: or `deny`; by user-agent, which anybody can set: advice
//!                                      # to honest clients, and no wall
//!       on_error: deny                 # optional, deny: where `tools` or `system_prompt` cannot be read, the size of
//!                                      # `images`, or an answer's calls; or pass
//!       input:                           # optional, as are its keys
//!         longest: 128000 tokens
//!         secrets: deny                  # or redact, hash, tag, observe; what is found in prompts, by kind, and in what is
//!                                        # told the provider beside them: `metadata`, `user`, `stop`, labels and the like;
//!                                        # in strings, and in numbers, which give way to strings. What a field of few
//!                                        # letters has no room for is told in fewer: `[email]`, `[redacted]`, `***`
//!         email: pseudonym               # also: a name for the model, and in the answer the address again
//!         phone: redact                  # Chinese, and any that begins with + and a country
//!         card: hash
//!         iban: tag
//!         cn_id_card: deny
//!         bank_card: redact
//!         passport: observe              # behind the word
//!         ssn: redact
//!         injection: {markup: deny}      # words by which a text becomes an instruction to the model: `override` (earlier
//!                                        # ones no longer count), `reveal` (tell them), `unbind` (there are no rules), and
//!                                        # `markup` (of chat templates). deny, redact, tag or observe, for those not named
//!                                        # too; or one word for all. By their usual wording alone, mostly English and
//!                                        # Chinese: what is said otherwise is not found, and what only quotes it is
//!         patterns: {badge: {match: "EMP-[0-9]{6}", action: tag}}   # no match longer than 1,024 bytes
//!         keywords: {words: [project falcon], action: deny}         # any case; not in the words of settings, such as
//!                                        # `tool_choice` and `service_tier`
//!         on_error: deny                 # optional, deny: where something must be changed in a form, which cannot be,
//!                                        # or text comes as numbers of tokens; or pass
//!       output: {longest: 8000 tokens, secrets: redact, on_error: deny}   # the same in answers, without pseudonyms;
//!                                        # `longest`: a call that asks for more is refused (`longest_output`), one that
//!                                        # states no limit is given one; `on_error`, what becomes of an answer that
//!                                        # cannot be screened: deny, the default, or pass
//!       audit: metadata                # optional, none: what records keep beside figures. `metadata`: the caller's address,
//!                                      # `user-agent`, path and what was found; `bodies`: also what was asked and answered,
//!                                      # as it left here, the last 16 KiB of each, but no definitions of tools: all of it
//!                                      # without anything that `input` could look for by name, and without the plan's own
//!                                      # patterns and keywords. Refused calls, those that go through unmetered, and those
//!                                      # whose VM died leave none; it needs a collector
//!       observe: [models, longest, tools]   # optional: as above, for rules of this half
//! levels: [seat, org]                  # optional: what accounts belong to, in the order in which they are written
//! seats:
//!   alice:                             # keys as SHA-256: printf %s KEY | sha256sum; optional beside `jwt` or `san`
//!     org: acme
//!     keys: ["sha256:8be25d9c6da5f3b7d9b5a8e3f6b1dbf3c34d8b4a8d7b5e5c8a0e4f3d2c1b0a99"]
//! packs:                               # optional: one-off top-ups of an account
//!   top-up-1: {for: {org: acme}, amount: 625000 credits, from: 2026-11-01, until: 2026-12-01}   # optional: from, models
//! assign:                              # the first line that matches; what none matches is refused
//!   - {when: {seat: alice}, plan: team@2026-11, from: 2026-11-03, until: 2027-11-03, state: active}   # any levels;
//!                                      # `plan: deny` refuses. Optional: from, until, state (active or frozen), and
//!                                      # `anniversary: 2026-11-03`, the day from which its windows are counted
//!   - {otherwise: deny}
//! unknown: {path: deny, body: deny, after: work}   # optional: calls that are no LLM call; bodies that cannot be read; calls
//!                                      # that ask after work which goes on (the table in `meter::dialect::made`): they pass by
//!                                      # the name of a job (`work`), by that of any file too (`files`), or not (`deny`), as far
//!                                      # as `endpoints` takes such work, and cost nothing. `path: count demo-free`: calls that
//!                                      # are no LLM call are metered as those of that model, by their bytes: four of a body or
//!                                      # an answer are a token. No upstream can be told a limit of such an answer: it is held
//!                                      # in slices of `unstated_output` as it comes, and broken off where there is no more.
//!                                      # Or `pass`: nothing of them is metered, and `input` and `output` of the plan are looked
//!                                      # for in them as in one text; of what cannot be read (compressed, an upgrade)
//!                                      # `on_error` says more
//! collector:                           # optional: without it limits are the grants, and counters die with the process
//!   cluster: farebox-collector         # the Envoy cluster
//!   sync: 1s                           # optional, as are the next: how often records go out and grants come in
//!   buffer: 64 MiB                     # records kept while it is away
//!   patience: 2s                       # how long a call waits for a grant
//! tests:                               # optional: what must happen, for `farebox test`
//!   - name: an admitted call is charged to the token
//!     as: {seat: alice}                # or {key: …}, in clear
//!     at: 2026-11-25T10:00:00+08:00    # optional
//!     used: {pace: 100 fresh tokens}         # optional: already used in the windows that run at the first call
//!     call: {api: openai chat, model: demo-small, input: 500, max_output: 100, stream: true, from: 10.1.2.3, headers: {x-a: b, x-team: [blue, red]},
//!            host: llm.acme.test, path: /v1/chat/completions, method: POST, body: {tools: []}}   # `body`: members of it
//!                                      # `max_tokens`: the older name of the limit beside it. Other apis: `anthropic
//!                                      # messages`, `openai embeddings`, `openai images` (`images: 2`), `openai speech`, `openai transcription`
//!                                      # (`seconds: 30` of sound), `minimax speech`, `minimax images`, `minimax video` (`seconds: 6` of
//!                                      # film), `minimax music`; `open: true`: it points at what cannot be read
//!     answer:                          # optional, as are its keys. `after: 3s`: it takes so long to begin, and `every:
//!                                      # 100ms` from token to token of a stream; `images: 1`, `seconds: 12`: in place of
//!                                      # those asked for; `failed`: what the tries before it meet, a status or `no response`;
//!                                      # `arguments: true`: it is a tool's call; `used: [web_search, mcp__files__read]`:
//!                                      # tools that its provider ran, or a server of tools
//!       {output: 50, input: 500, cached: 0, reasoning: 0, status: 200, silent: false, past_limit: false, echo: false,
//!        served: demo-small, failed: [503], ends: whole}   # also `error inside`, `broken after 5 tokens` of a stream, `hung up`,
//!                                      # `hung up after 5 tokens`, `silent after 5 tokens` without an end, `no response`,
//!                                      # `no connection`, `not sent`
//!     expect:
//!       {decision: allow, status: 200, tier: gold, max_output: 100, charged: {month: 0.7 credits}, held: {}, records: 1,
//!        finish: stop, delivered: 50, outcome: complete, sent: {x-a: b, authorization: none}}   # `sent`: headers that the
//!                                      # upstream sees; `tries: 3`; and `text`, that the caller sees; `max_tokens`; `graced: 0`
//!                                      # tokens by which a tool's call was let end; `reached: [month 50]`: percents noted;
//!                                      # `audit: none`, or what the record keeps: {address: 10.1.2.3, agent: codex/1, path:
//!                                      # /v1/messages, findings: [email:redact:1], prompt: …, answer: …, cut: [answer]}
//!   - name: a prompt beyond the cap is refused
//!     as: {seat: alice}
//!     used: {in-5h: 20000 input tokens}
//!     call: {api: anthropic messages, model: demo-small, prompt: "any text", max_output: 100}
//!     expect: {decision: deny, by: in-5h, status: 429, code: rate_limit_error, retry_after: at most 5h, charged: {}}
//!   - name: a call that goes on with a tool's result begins no turn
//!     as: {seat: alice}
//!     before:                          # optional: calls before, all admitted; `as`, if not by the same caller; `at` is
//!                                      # that of the next; `used`: what others have used by then, in windows that run then
//!       - {at: 2026-11-25T10:00:00+08:00, call: {api: anthropic messages, model: demo-small, input: 500, max_output: 100},
//!          used: {turns: 1 prompt}, answer: {output: 20, tool_calls: 1}}   # tools that it calls; the call offers one
//!     at: 2026-11-25T15:00:00+08:00
//!     call: {api: anthropic messages, model: demo-small, input: 500, max_output: 100, continues: true}
//!     answer: {output: 20, cached: 100, cache_write: 100, cache_write_1h: 40}   # the last: of these, kept for an hour
//!     expect: {decision: allow, model: demo-small, passed: [], charged: {turns: 0 prompts}}   # `passed`: overage, waited, …
//! ```

pub mod bundle;
pub mod case;
pub mod diagnostic;
pub mod price;
pub mod succession;
pub mod unit;

mod agents;
mod assign;
mod audit;
mod band;
mod compile;
mod connectivity;
mod document;
mod fallback;
mod fields;
mod funding;
mod guard;
mod hold;
mod identity;
mod images;
mod keys;
mod models;
mod names;
mod plan;
mod regions;
mod rename;
mod retry;
mod scalar;
mod screen;
mod security;
mod tokens;
mod tree;
mod window;

pub use bundle::Bundle;
pub use case::Case;
pub use diagnostic::Diagnostic;
pub use rename::renamed;
pub use tree::{DEEPEST, LARGEST};

use diagnostic::Faults;
use document::Document;

/// Compiles a policy, or says all that is wrong with it. `file` is the name that diagnostics give.
///
/// Total: any text, of any size, ends in one or the other. The `tests` section is checked as strictly as the rest.
pub fn compile(text: &str, file: &str) -> Result<Bundle, Vec<Diagnostic>> {
    read(text, file).map(|(bundle, _)| bundle)
}

/// As [`compile`], where no cases are run: the `tests` section is not read, whatever is in it.
pub fn enforced(text: &str, file: &str) -> Result<Bundle, Vec<Diagnostic>> {
    let mut faults = Faults::default();
    let root = tree::parse(text, &mut faults);
    let document = root.and_then(|root| Some(document::read(&root, &mut faults)?.0));
    let bundle = document.and_then(|document| compile::bundle(&document, text, &mut faults));
    bundle.ok_or_else(|| faults.into_diagnostics(file))
}

/// The cases of a policy's `tests` section, in the order written; none where it has no such section.
///
/// Their names of seats and quotas, and their units, are those of the policy; so a policy at fault has no cases.
pub fn cases(text: &str, file: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    read(text, file).map(|(_, cases)| cases)
}

/// The cases in a file of their own, which has a `tests` section and nothing else, for the policy `text`.
///
/// The policy's own faults come under the name `file`, those of the cases under `beside_file`.
pub fn cases_beside(text: &str, file: &str, beside: &str, beside_file: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    read(text, file)?;
    // The policy has no faults, so nothing is noted here.
    let root = tree::parse(text, &mut Faults::default());
    let document = root.and_then(|root| Some(document::read(&root, &mut Faults::default())?.0));
    let mut faults = Faults::default();
    let cases = tree::parse(beside, &mut faults).and_then(|root| {
        let fields = fields::Fields::of(&root, "a file of cases", &["tests"], &mut faults)?;
        let node = fields.required("tests", "list the cases under `tests`", &mut faults)?;
        Some(cases_of(node, &document?, &mut faults))
    });
    cases.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_diagnostics(beside_file))
}

fn read(text: &str, file: &str) -> Result<(Bundle, Vec<Case>), Vec<Diagnostic>> {
    let mut faults = Faults::default();
    let compiled = tree::parse(text, &mut faults).and_then(|root| {
        let (document, tests) = document::read(&root, &mut faults)?;
        let bundle = compile::bundle(&document, text, &mut faults);
        let cases = tests.map(|node| cases_of(node, &document, &mut faults)).unwrap_or_default();
        Some((bundle?, cases))
    });
    compiled.filter(|_| faults.is_empty()).ok_or_else(|| faults.into_diagnostics(file))
}

/// The cases of a list; what they name is looked up in the policy.
fn cases_of(node: &tree::Node, document: &Document, faults: &mut Faults) -> Vec<Case> {
    let drafts = case::read(node, faults);
    let assigned = assign::resolve(document, &mut Faults::default());
    case::check(&drafts, document, &assigned, faults);
    drafts.into_iter().map(case::Draft::into_case).collect()
}

#[cfg(test)]
mod tests;
