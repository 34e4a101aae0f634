"""Work that is no conversation: embeddings, judgements, rankings, pictures, sound, counts, and what Bedrock and Vertex pass on. What such a
call says is hidden, observed or refused as in any other, and its refusal is an error of its provider."""

import concurrent.futures
import json
import re

import pytest
import requests
from conftest import TRAILERS
from documents import Answers
from whole import behind, key, policy

# Put together here, so that no scanner of repositories trips over this file.
SECRET = "AK" + "IAIOSFODNN7EXAMPLE"
GOOGLE = "/v1/projects/p/locations/l/publishers/google/models"
CLAUDE_COUNTS = "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict"
# The places of the words of an error.
ERROR, MESSAGE, STATUS = (lambda e: e["error"]["message"]), (lambda e: e["message"]), (lambda e: e["base_resp"]["status_msg"])
PLAIN = lambda e: e["error"]
# Of each the kind of work, its path, a body that says something and where the words of an error are.
WORK = {
    "openai embeddings": ("embeddings", "/v1/embeddings", lambda p: {"model": "demo", "input": [p, "and more"]}, ERROR),
    "openai moderations": ("moderations", "/v1/moderations", lambda p: {"model": "demo", "input": p}, ERROR),
    "openai images": ("images", "/v1/images/generations", lambda p: {"model": "demo", "prompt": p}, ERROR),
    "openai speech": ("audio", "/v1/audio/speech", lambda p: {"model": "demo", "input": p, "voice": "alloy"}, ERROR),
    "openai counts": ("count", "/v1/responses/input_tokens", lambda p: {"model": "demo", "input": p}, ERROR),
    "anthropic counts": ("count", "/v1/messages/count_tokens", lambda p: {"model": "demo", "messages": [{"role": "user", "content": p}]}, ERROR),
    "gemini embed": ("embeddings", "/v1beta/models/demo:embedContent", lambda p: {"content": {"parts": [{"text": p}]}}, ERROR),
    "gemini embed many": ("embeddings", "/v1beta/models/demo:batchEmbedContents", lambda p: {"requests": [{"model": "models/demo", "content": {"parts": [{"text": p}]}}]}, ERROR),
    "gemini counts": ("count", "/v1beta/models/demo:countTokens", lambda p: {"contents": [{"parts": [{"text": p}]}]}, ERROR),
    "vertex claude counts": ("count", CLAUDE_COUNTS, lambda p: {"model": "demo", "messages": [{"role": "user", "content": p}]}, ERROR),
    "vertex embeddings": ("predict", f"{GOOGLE}/demo:predict", lambda p: {"instances": [{"content": p}]}, ERROR),
    "vertex images": ("predict", f"{GOOGLE}/demo:predict", lambda p: {"instances": [{"prompt": p}], "parameters": {"sampleCount": 1}}, ERROR),
    "bedrock titan": ("predict", "/model/amazon.titan-embed-text-v2:0/invoke", lambda p: {"inputText": p}, MESSAGE),
    "bedrock llama": ("predict", "/model/meta.llama3-8b/invoke", lambda p: {"prompt": p, "max_gen_len": 50}, MESSAGE),
    "bedrock nova": ("predict", "/model/amazon.nova-lite/invoke", lambda p: {"messages": [{"role": "user", "content": [{"text": p}]}]}, MESSAGE),
    "bedrock cohere": ("predict", "/model/cohere.command-r/invoke", lambda p: {"message": p, "max_tokens": 50}, MESSAGE),
    "cohere embed": ("embeddings", "/v2/embed", lambda p: {"model": "demo", "texts": [p], "input_type": "search_query"}, MESSAGE),
    "cohere embed 1": ("embeddings", "/v1/embed", lambda p: {"model": "demo", "texts": [p]}, MESSAGE),
    "cohere generate": ("completions", "/v1/generate", lambda p: {"model": "demo", "prompt": p}, MESSAGE),
    "cohere tokenize": ("count", "/v1/tokenize", lambda p: {"model": "demo", "text": p}, ERROR),
    "rerank": ("rerank", "/v2/rerank", lambda p: {"model": "demo", "query": "who?", "documents": ["nobody", p]}, ERROR),
    "rerank query": ("rerank", "/v1/rerank", lambda p: {"model": "demo", "query": p, "documents": [{"text": "nobody"}]}, ERROR),
    "ollama embed": ("embeddings", "/api/embed", lambda p: {"model": "demo", "input": [p]}, PLAIN),
    "ollama embeddings": ("embeddings", "/api/embeddings", lambda p: {"model": "demo", "prompt": p}, PLAIN),
    "dashscope embeddings": ("embeddings", "/api/v1/services/embeddings/text-embedding/text-embedding", lambda p: {"model": "demo", "input": {"texts": [p]}}, MESSAGE),
    "dashscope rerank": ("rerank", "/api/v1/services/rerank/text-rerank/text-rerank", lambda p: {"model": "demo", "input": {"query": "who?", "documents": [p]}}, MESSAGE),
    "minimax speech": ("audio", "/v1/t2a_v2", lambda p: {"model": "demo", "text": p, "voice_setting": {"voice_id": "v"}}, STATUS),
    "minimax images": ("images", "/v1/image_generation", lambda p: {"model": "demo", "prompt": p}, STATUS),
    "minimax films": ("images", "/v1/video_generation", lambda p: {"model": "demo", "prompt": p}, STATUS),
    "minimax async speech": ("audio", "/v1/t2a_async_v2", lambda p: {"model": "demo", "text": p}, STATUS),
    "minimax new films": ("images", "/v2/video_generation", lambda p: {"model": "demo", "content": [{"type": "text", "text": p}], "duration": 8}, STATUS),
    "dashscope images": ("images", "/api/v1/services/aigc/text2image/image-synthesis", lambda p: {"model": "demo", "input": {"prompt": p}, "parameters": {"n": 1}}, MESSAGE),
    "dashscope films": ("images", "/api/v1/services/aigc/video-generation/video-synthesis", lambda p: {"model": "demo", "input": {"prompt": p}}, MESSAGE),
    "zhipu films": ("images", "/api/paas/v4/videos/generations", lambda p: {"model": "demo", "prompt": p}, ERROR),
    "ark films": ("images", "/api/v3/contents/generations/tasks", lambda p: {"model": "demo", "content": [{"type": "text", "text": p}]}, ERROR),
    "openai films": ("images", "/v1/videos", lambda p: {"model": "demo", "prompt": p, "seconds": "8"}, ERROR),
    "vertex films": ("predict", f"{GOOGLE}/demo:predictLongRunning", lambda p: {"instances": [{"prompt": p}], "parameters": {"durationSeconds": 8}}, ERROR),
    "minimax music": ("images", "/v1/music_generation", lambda p: {"model": "demo", "lyrics": p}, STATUS),
    "llama.cpp gap": ("completions", "/infill", lambda p: {"input_prefix": p, "input_suffix": "}", "n_predict": 50}, PLAIN),
    "llama.cpp": ("completions", "/completion", lambda p: {"prompt": p, "n_predict": 50}, PLAIN),
}
KINDS = sorted({kind for kind, *_ in WORK.values()})
SAFE = {"redact": r"\[redacted\]", "tag": r"\[email\]", "hash": r"\[email:[0-9a-f]{12}\]", "observe": r"bob@example\.com"}
PLANS = {
    **{action: f"{{security: {{input: {{email: {action}}}}}}}" for action in SAFE},
    "refuse": "{security: {input: {email: deny, secrets: deny, keywords: {words: [falcon], action: deny}}}}",
    "models": '{security: {models: ["other*"]}}',
    **{f"no-{kind}": f"{{security: {{endpoints: {{deny: [{kind}]}}}}}}" for kind in KINDS},
    "small": "{connectivity: {response: {largest: 1 KiB}}}",
    "late": "{connectivity: {response: {first_token: 500ms}}}",
    "later": "{tokens: {hold: {assume_input: 100}, caps: {day: {limit: 500 output tokens, per: seat, window: lifetime}}}}",
    "now": "{tokens: {caps: {day: {limit: 500 output tokens, per: seat, window: lifetime}}}}",
    "output": "{security: {output: {email: redact, secrets: deny}}}",
    "films": "{tokens: {caps: {day: {limit: 20 seconds, per: seat, window: lifetime}, made: {limit: 9 requests, per: seat, window: lifetime}}}}",
    "picture": "{security: {images: {most: 1}}}",
    "pictures": "{security: {images: {most: 2}}}",
}
POLICY = policy("endpoints", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}')


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    edit = lambda text: text.replace("  - name: upstream\n", TRAILERS)
    with behind(Answers(), tmp_path_factory.mktemp("endpoints"), POLICY, edit=edit) as stack:
        yield stack


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAC0lEQVR4nGP4DwYAFPIF+6QNfF4AAAAASUVORK5CYII="
LINK = "https://a.test/x.png"
# Two pictures in each, under keys of its provider's own.
PICTURES = [
    ("openai images", {"images": [{"image_url": f"data:image/png;base64,{PNG}"}, {"file_id": "f"}]}),
    ("vertex images", {"instances": [{"prompt": "x", "referenceImages": [{"referenceImage": {"bytesBase64Encoded": PNG}}] * 2}]}),
    ("vertex images", {"instances": [{"prompt": "x", "image": {"bytesBase64Encoded": PNG}, "lastFrame": {"gcsUri": "gs://a/b"}}]}),
    ("bedrock titan", {"inputImage": PNG, "maskImage": PNG}),
    ("bedrock titan", {"taskType": "IMAGE_VARIATION", "imageVariationParams": {"text": "x", "images": [PNG, PNG]}}),
    ("bedrock titan", {"taskType": "INPAINTING", "inPaintingParams": {"image": PNG, "maskImage": PNG}}),
    ("bedrock llama", {"images": [PNG, PNG]}),
    ("bedrock cohere", {"init_image": PNG, "mask_image": PNG}),
    ("dashscope embeddings", {"input": {"contents": [{"image": LINK}, {"image": f"data:image/png;base64,{PNG}"}, {"text": "x"}]}}),
    ("minimax films", {"first_frame_image": LINK, "last_frame_image": LINK}),
    ("minimax images", {"subject_reference": [{"type": "character", "image_file": LINK}] * 2}),
]


@pytest.mark.parametrize("work, more", PICTURES, ids=lambda one: one if isinstance(one, str) else next(iter(one)))
def test_pictures_are_counted_wherever_they_are(stack, work, more):
    for plan, status in (("picture", 403), ("pictures", 200)):
        answer, heard = ask(stack, plan, work, "hi", more=more)
        assert (answer.status_code, heard is not None) == (status, status == 200), f"{plan}: {answer.text}"
        assert status == 200 or "2 images" in WORK[work][3](answer.json()), answer.text


def test_pictures_of_a_form_are_counted(stack):
    whole, upstream = stack
    edit = lambda plan, *files: requests.post(f"{whole.url}/v1/images/edits", data={"model": "demo", "prompt": "a hat"}, files=files, headers={"authorization": f"Bearer {key(plan)}"}, timeout=30)
    picture = lambda name: (name, ("a.png", b"\x89PNG", "image/png"))
    for plan, names, status in (
        ("picture", ["image[]"], 200),
        ("picture", ["image[]", "image[]"], 403),
        ("picture", ["image", "mask"], 403),
        ("pictures", ["image[]", "image[]"], 200),
        ("pictures", ["image", "mask"], 200),
        ("pictures", ["image[]", "image[]", "mask"], 403),
        ("pictures", ["image", "image"], 400),
    ):
        answer = edit(plan, *map(picture, names))
        assert answer.status_code == status, f"{plan}, {names}: {answer.text}"
        assert status == 200 or answer.json()["error"]["message"]


# What answers of those say that say something.
ANSWERS = {
    "openai images": lambda t: {"created": 1, "data": [{"b64_json": "QUJD", "revised_prompt": t}]},
    "vertex images": lambda t: {"predictions": [{"bytesBase64Encoded": "QUJD", "prompt": t}]},
    "bedrock llama": lambda t: {"generation": t, "prompt_token_count": 3, "generation_token_count": 9, "stop_reason": "stop"},
    "bedrock nova": lambda t: {"output": {"message": {"role": "assistant", "content": [{"text": t}]}}, "stopReason": "end_turn"},
    "bedrock cohere": lambda t: {"text": t, "finish_reason": "COMPLETE", "chat_history": [{"role": "CHATBOT", "message": t}]},
    "cohere generate": lambda t: {"id": "g", "generations": [{"id": "1", "text": t, "finish_reason": "COMPLETE"}]},
    "rerank": lambda t: {"results": [{"index": 1, "relevance_score": 0.9, "document": {"text": t}}]},
    "dashscope rerank": lambda t: {"output": {"results": [{"index": 0, "relevance_score": 0.9, "document": {"text": t}}]}, "request_id": "r"},
    "minimax music": lambda t: {"data": {"audio": "00ff", "lyrics": t}, "base_resp": {"status_code": 0, "status_msg": "success"}},
    "llama.cpp": lambda t: {"content": t, "stop": True, "tokens_predicted": 9, "tokens_evaluated": 3},
}


def ask(stack, plan, work, prompt, said=None, more=None):
    """The answer, and what came to the upstream of the call."""
    whole, upstream = stack
    _, path, body, _ = WORK[work]
    upstream.heard, upstream.said = None, json.dumps(said or {}).encode()
    answer = whole.session.post(whole.url + path, json={**body(prompt), **(more or {})}, headers={"authorization": f"Bearer {key(plan)}"}, timeout=30)
    return answer, upstream.heard


@pytest.mark.parametrize("work", WORK)
def test_what_is_asked_is_hidden_or_observed(stack, work):
    for action, safe in SAFE.items():
        answer, heard = ask(stack, action, work, "Write to bob@example.com now.")
        assert answer.status_code == 200, f"{action}: {answer.text}"
        assert re.search(f'"Write to {safe} now\\.', str(heard).replace("'", '"')), f"{action}: {heard}"


@pytest.mark.parametrize("work", WORK)
def test_what_is_not_allowed_is_refused_in_its_tongue(stack, work):
    kind, _, _, words = WORK[work]
    for plan, prompt, why in (
        ("refuse", "Write to bob@example.com now.", "personal data"),
        ("refuse", f"It is {SECRET}.", "secret"),
        ("refuse", "Falcon, fly!", "keywords"),
        ("models", "hi", "model"),
        (f"no-{kind}", "hi", kind),
    ):
        answer, heard = ask(stack, plan, work, prompt)
        assert (answer.status_code, heard) == (403, None), f"{plan}, {prompt}: {answer.status_code} {answer.text}"
        assert why in words(answer.json()) and SECRET not in answer.text, f"{plan}, {prompt}: {answer.text}"
    answer, heard = ask(stack, "refuse", work, "hi")
    assert answer.status_code == 200 and heard, answer.text


@pytest.mark.parametrize("work", WORK)
def test_what_is_too_large_is_an_error_in_its_place(stack, work):
    few, many = ({"data": ["x" * size]} for size in (500, 1500))
    _, upstream = stack
    for announced in (True, False):
        upstream.announced = announced
        try:
            answer, _ = ask(stack, "small", work, "hi", many)
            assert "xxx" not in answer.text and "larger" in WORK[work][3](answer.json()), answer.text
            answer, _ = ask(stack, "small", work, "hi", few)
            assert answer.json() == few
        finally:
            upstream.announced = True


def test_what_does_not_come_is_an_error(stack):
    _, upstream = stack
    upstream.delay = 2
    try:
        with concurrent.futures.ThreadPoolExecutor(len(WORK)) as pool:
            answers = dict(zip(WORK, pool.map(lambda work: ask(stack, "late", work, "hi")[0], WORK)))
    finally:
        upstream.delay = 0
    for work, answer in answers.items():
        assert answer.status_code == 504 and "did not begin" in WORK[work][3](answer.json()), f"{work}: {answer.text}"


@pytest.mark.parametrize("work", ANSWERS)
def test_what_is_answered_is_hidden_or_refused(stack, work):
    answer, _ = ask(stack, "output", work, "hi", ANSWERS[work]("Of ann@example.com it is."))
    assert answer.json() == ANSWERS[work]("Of [redacted] it is.")
    answer, _ = ask(stack, "output", work, "hi", ANSWERS[work](f"It is {SECRET}."))
    assert SECRET not in answer.text and "secret" in WORK[work][3](answer.json()), answer.text


def test_what_is_only_promised_is_charged_as_it_is_held(stack):
    """OpenAI, "Background mode": the answer says that it is queued, and no more."""
    whole, upstream = stack
    body = {"model": "demo", "input": "hi", "max_output_tokens": 300, "background": True}

    def put_off(plan):
        upstream.heard, upstream.said = None, json.dumps({"object": "response", "status": "queued", "usage": None, "output": []}).encode()
        answer = whole.session.post(f"{whole.url}/v1/responses", json=body, headers={"authorization": f"Bearer {key(plan)}"}, timeout=30)
        return answer.status_code, upstream.heard and upstream.heard["max_output_tokens"]

    assert put_off("now") == (400, None), "nobody will hear what it writes"
    assert [put_off("later") for _ in range(3)] == [(200, 300), (200, 200), (429, None)]


# Of each film of eight seconds how its provider answers, how it refuses, and where it is asked after.
FILMS = {
    "minimax new films": ({"task_id": "424010985738629", "base_resp": {"status_code": 0}}, {"base_resp": {"status_code": 1026, "status_msg": "no"}}, "/v2/query/video_generation/424010985738629"),
    "openai films": ({"id": "video_1", "object": "video", "status": "queued", "seconds": "8"}, {"error": {"message": "no"}}, "/v1/videos/video_1"),
    "vertex films": ({"name": "projects/p/locations/l/publishers/google/models/demo/operations/o"}, {"error": {"code": 3, "message": "no"}}, "/v1beta/models/demo/operations/o"),
}


def test_films_are_charged_as_they_are_asked_for_and_asking_after_them_is_free(stack):
    """Twenty seconds are two films of eight; a third is refused, though nothing but names of tasks came back."""
    whole, upstream = stack
    taken, refused, _ = FILMS["minimax new films"]
    for said in (refused, taken, refused, taken):
        assert ask(stack, "films", "minimax new films", "a cat", said)[0].json() == said
    for work, (_, _, after) in FILMS.items():
        answer, heard = ask(stack, "films", work, "a cat", taken)
        assert (answer.status_code, heard) == (429, None), f"{work}: {answer.text}"
        assert "day" in WORK[work][3](answer.json()), answer.text
        upstream.said = json.dumps({"status": "Success", "file_id": "1"}).encode()
        for path in (after, "/api/v1/tasks/0385dc79-5ff8"):
            told = whole.session.get(whole.url + path, headers={"authorization": f"Bearer {key('films')}"}, timeout=30)
            assert told.status_code == 200, f"{path}: {told.text}"
    # A file is known by a number, and may be another caller's: the policy would have to say `after: files`.
    for path in ("/v1/videos", "/v1/files", "/v1/files/retrieve?file_id=1", "/api/v1/tasks"):
        told = whole.session.get(whole.url + path, headers={"authorization": f"Bearer {key('films')}"}, timeout=30)
        assert told.status_code == 404, f"{path}: {told.text}"


def events(text):
    """OpenAI, "Audio: streaming events"."""
    told = [{"type": "transcript.text.delta", "delta": text[at : at + 5]} for at in range(0, len(text), 5)]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in [*told, {"type": "transcript.text.done", "text": text}])


def heard_of(stream):
    """What a client strings together of them; what is told whole at the end is the same."""
    told = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    text = "".join(event.get("delta", "") for event in told)
    assert told[-1].get("text", text) == text, stream
    return told[-1]["error"]["message"] if "error" in told[-1] else text


# What was heard may come as any of these.
SPOKEN = {
    "application/json": (lambda text: json.dumps({"text": text}), lambda told: json.loads(told)["text"]),
    "text/plain": (lambda text: text, lambda told: told),
    "text/event-stream": (events, heard_of),
}


@pytest.mark.parametrize("ends", ["length", "chunks", "trailers"])
@pytest.mark.parametrize("kind", SPOKEN)
def test_what_was_heard_is_hidden_or_refused(stack, kind, ends):
    """Sound comes in a form; and its text, which may be no JSON, loses nothing by its end."""
    whole, upstream = stack
    upstream.kind, upstream.announced, upstream.trailers = kind, ends == "length", b"x-sum: 5\r\n" if ends == "trailers" else b""

    def transcribe(text):
        upstream.said = SPOKEN[kind][0](text).encode()
        form = {"data": {"model": "demo", "response_format": "json"}, "files": {"file": ("a.mp3", b"s" * 5000)}}
        try:
            answer = requests.post(f"{whole.url}/v1/audio/transcriptions", headers={"authorization": f"Bearer {key('output')}"}, timeout=30, **form)
        except requests.RequestException:
            # Of a text that has begun nothing more can be said: it is broken off.
            return "broken off"
        return answer.json()["error"]["message"] if answer.text.startswith('{"error"') else SPOKEN[kind][1](answer.text)

    try:
        for text in ("Of ann@example.com it is.", "It is of ann@example.com", "A word, and no more"):
            assert transcribe(text) == text.replace("ann@example.com", "[redacted]")
        refused = transcribe(f"It is {SECRET}.")
        assert SECRET not in refused and ("secret" in refused or refused == "broken off" and kind != "application/json"), refused
    finally:
        upstream.kind, upstream.announced, upstream.trailers = "application/json", True, b""


def test_nothing_passed_unread(stack):
    whole, _ = stack
    stats = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    assert "farebox_unscreened_total{" not in stats and "farebox_unread_total{" not in stats
    whole.unharmed()
