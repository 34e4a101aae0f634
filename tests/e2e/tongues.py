"""An upstream that answers every POST with a stream in the tongue of its path: the wire formats that `farebox upstream` does not speak.

Each function gives the events of an answer of `words` as its provider sends them (sources: the API references of the providers, and the
recorded shapes in tests/golden), and then the calls of tools: of each its name and its arguments in pieces, as far as the dialect has such
calls and pieces. A word is a token of o200k_base. What a provider reports at the end is `INPUT` and the number of words.
"""

import base64
import json
import re
import struct
import time
import zlib

from server import Handler, Server

INPUT = 9
WORD = " word"


def sse(data, event=None):
    return (f"event: {event}\n" if event else "") + f"data: {json.dumps(data)}\n\n"


def responses(words, model, calls=()):
    """OpenAI, "Responses: streaming events"."""
    number = iter(range(10_000))
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    whole = {"id": "resp_1", "object": "response", "created_at": 1_795_564_800, "status": "in_progress", "model": model, "output": [],
             "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    event = lambda kind, **more: sse({"type": kind, "sequence_number": next(number), **more}, kind)
    yield event("response.created", response=whole)
    yield event("response.output_item.added", output_index=0, item=item)
    yield event("response.content_part.added", **at, part=part)
    for word in words:
        yield event("response.output_text.delta", **at, delta=word, logprobs=[])
    text = "".join(words)
    done = {**item, "status": "completed", "content": [{**part, "text": text}]}
    yield event("response.output_text.done", **at, text=text, logprobs=[])
    yield event("response.content_part.done", **at, part={**part, "text": text})
    yield event("response.output_item.done", output_index=0, item=done)
    output = [done]
    for place, (name, pieces) in enumerate(calls, 1):
        item = {"id": f"fc_{place}", "type": "function_call", "call_id": f"call_{place}", "name": name, "arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", output_index=place, item=item)
        for piece in pieces:
            yield event("response.function_call_arguments.delta", item_id=item["id"], output_index=place, delta=piece)
        text = "".join(pieces)
        yield event("response.function_call_arguments.done", item_id=item["id"], output_index=place, name=name, arguments=text)
        output.append({**item, "status": "completed", "arguments": text})
        yield event("response.output_item.done", output_index=place, item=output[-1])
    usage = {"input_tokens": INPUT, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": len(words),
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": INPUT + len(words)}
    yield event("response.completed", response={**whole, "status": "completed", "output": output, "usage": usage})


def completions(words, model):
    """OpenAI, "Completions" (legacy)."""
    chunk = lambda choices, **more: sse({"id": "cmpl-1", "object": "text_completion", "created": 1_795_564_800, "model": model,
                                         "choices": choices, **more})
    for word in words:
        yield chunk([{"text": word, "index": 0, "logprobs": None, "finish_reason": None}])
    yield chunk([{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}])
    yield chunk([], usage={"prompt_tokens": INPUT, "completion_tokens": len(words), "total_tokens": INPUT + len(words)})
    yield "data: [DONE]\n\n"


def chat(words, model, calls=()):
    """OpenAI, "Chat completions: streaming"; Mistral's is the same but for where usage comes, and that calls come whole."""
    chunk = lambda choices, **more: sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_795_564_800, "model": model,
                                         "choices": choices, **more})
    for word in words:
        yield chunk([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}])
    for place, (name, pieces) in enumerate(calls):
        whole = model == "mistral"
        first = {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": "".join(pieces) if whole else ""}}
        for call in [first, *({"function": {"arguments": piece}} for piece in pieces if not whole)]:
            yield chunk([{"index": 0, "delta": {"tool_calls": [{"index": place, **call}]}, "finish_reason": None}])
    usage = {"prompt_tokens": INPUT, "completion_tokens": len(words), "total_tokens": INPUT + len(words)}
    yield chunk([{"index": 0, "delta": {"content": ""}, "finish_reason": "tool_calls" if calls else "stop"}], usage=usage)
    yield "data: [DONE]\n\n"


def anthropic_complete(words, model):
    """Anthropic, "Streaming text completions" (legacy)."""
    event = lambda **data: sse({"type": "completion", "stop": None, "model": model, "log_id": "compl_1", **data}, "completion")
    for word in words:
        yield event(completion=word, stop_reason=None)
    yield event(completion="", stop_reason="stop_sequence")


def anthropic_events(words, model, calls=()):
    """Anthropic, "Streaming messages": the events alone, as Bedrock passes them on."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": INPUT, "output_tokens": 1}}
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in words:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "content_block_stop", "index": 0}
    for place, (name, pieces) in enumerate(calls, 1):
        yield {"type": "content_block_start", "index": place, "content_block": {"type": "tool_use", "id": f"toolu_{place}", "name": name, "input": {}}}
        for piece in pieces:
            yield {"type": "content_block_delta", "index": place, "delta": {"type": "input_json_delta", "partial_json": piece}}
        yield {"type": "content_block_stop", "index": place}
    yield {"type": "message_delta", "delta": {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}, "usage": {"output_tokens": len(words)}}
    yield {"type": "message_stop"}


def messages(words, model, calls=()):
    """… and as they are streamed."""
    for event in anthropic_events(words, model, calls):
        yield sse(event, event["type"])


def gemini_chunks(words, model, calls=()):
    """Google, "generateContent"."""
    parts = [{"text": word} for word in words] + [{"functionCall": {"name": name, "args": json.loads("".join(pieces))}} for name, pieces in calls]
    for place, part in enumerate(parts, 1):
        last = place == len(parts)
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0, **({"finishReason": "STOP"} if last else {})}
        usage = {"promptTokenCount": INPUT, "candidatesTokenCount": place, "totalTokenCount": INPUT + place}
        yield {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r1"}


def gemini_sse(words, model, calls=()):
    """… with `alt=sse`."""
    for chunk in gemini_chunks(words, model, calls):
        yield f"data: {json.dumps(chunk)}\r\n\r\n"


def gemini_array(words, model, calls=()):
    """… without it."""
    for place, chunk in enumerate(gemini_chunks(words, model, calls)):
        yield ("," if place else "[") + json.dumps(chunk, indent=2) + "\r\n"
    yield "]"


def interactions(words, model, calls=()):
    """Google, "Interactions: streaming"."""
    whole = {"id": "int_1", "object": "interaction", "model": model, "status": "in_progress", "created": "2026-11-25T00:00:00Z",
             "updated": "2026-11-25T00:00:00Z", "steps": []}
    event = lambda kind, **more: sse({"event_type": kind, **more}, kind)
    yield event("interaction.created", interaction=whole)
    yield event("step.start", index=0, step={"type": "model_output"})
    for word in words:
        yield event("step.delta", index=0, delta={"type": "text", "text": word})
    yield event("step.stop", index=0)
    for place, (name, pieces) in enumerate(calls, 1):
        yield event("step.start", index=place, step={"type": "function_call", "id": f"call_{place}", "name": name, "arguments": {}})
        for piece in pieces:
            yield event("step.delta", index=place, delta={"type": "arguments_delta", "arguments": piece})
        yield event("step.stop", index=place)
    usage = {"total_input_tokens": INPUT, "total_output_tokens": len(words), "total_tokens": INPUT + len(words)}
    yield event("interaction.completed", interaction={**whole, "status": "requires_action" if calls else "completed", "usage": usage})
    yield "event: done\ndata: [DONE]\n\n"


def cohere_v2(words, model, calls=()):
    """Cohere, "Chat with streaming", version 2."""
    event = lambda kind, **more: sse({"type": kind, **more}, kind)
    yield event("message-start", id="c1", delta={"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}})
    yield event("content-start", index=0, delta={"message": {"content": {"type": "text", "text": ""}}})
    for word in words:
        yield event("content-delta", index=0, delta={"message": {"content": {"text": word}}})
    yield event("content-end", index=0)
    for place, (name, pieces) in enumerate(calls):
        call = lambda **more: {"message": {"tool_calls": more}}
        yield event("tool-call-start", index=place, delta=call(id=f"call_{place}", type="function", function={"name": name, "arguments": ""}))
        for piece in pieces:
            yield event("tool-call-delta", index=place, delta=call(function={"arguments": piece}))
        yield event("tool-call-end", index=place)
    units = {"input_tokens": INPUT, "output_tokens": len(words)}
    yield event("message-end", id="c1", delta={"finish_reason": "TOOL_CALL" if calls else "COMPLETE", "usage": {"billed_units": units, "tokens": units}})
    yield "data: [DONE]\n\n"


def cohere_v1(words, model, calls=()):
    """Cohere, "Chat with streaming", version 1: a JSON object a line."""
    line = lambda **data: json.dumps(data) + "\n"
    yield line(is_finished=False, event_type="stream-start", generation_id="g1")
    for word in words:
        yield line(is_finished=False, event_type="text-generation", text=word)
    whole = [{"name": name, "parameters": json.loads("".join(pieces))} for name, pieces in calls]
    if calls:
        yield line(is_finished=False, event_type="tool-calls-generation", text="".join(words), tool_calls=whole)
    units = {"input_tokens": INPUT, "output_tokens": len(words)}
    answer = {"response_id": "r1", "generation_id": "g1", "text": "".join(words), "chat_history": [], "finish_reason": "COMPLETE", "tool_calls": whole,
              "meta": {"billed_units": units, "tokens": units}}
    yield line(is_finished=True, event_type="stream-end", response=answer, finish_reason="COMPLETE")


def ollama(words, model, said, calls=()):
    """Ollama, "Generate a chat completion"."""
    line = lambda **data: json.dumps({"model": model, "created_at": "2026-11-25T00:00:00.000000Z", **data}) + "\n"
    for word in words:
        yield line(**said(word), done=False)
    for name, pieces in calls:
        call = {"function": {"name": name, "arguments": json.loads("".join(pieces))}}
        yield line(message={"role": "assistant", "content": "", "tool_calls": [call]}, done=False)
    yield line(**said(""), done=True, done_reason="stop", prompt_eval_count=INPUT, eval_count=len(words), total_duration=1, eval_duration=1)


def dashscope(words, model, calls=()):
    """Alibaba, "DashScope API reference", with `incremental_output`; the model `repeating` is asked without it."""
    joined = (lambda pieces, count: "".join(pieces[:count])) if model == "repeating" else lambda pieces, count: pieces[count - 1]
    said = [{"content": joined(words, count)} for count in range(1, len(words) + 1)]
    told = {"content": "".join(words) if model == "repeating" else ""}
    made = []
    for index, (name, pieces) in enumerate(calls):
        for count in range(1, len(pieces) + 1):
            function = {"name": name if count == 1 or model == "repeating" else "", "arguments": joined(pieces, count)}
            call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
            said.append({**told, "tool_calls": [*made, call]})
        made += [call] if model == "repeating" else []
    for place, message in enumerate(said, 1):
        end = ("tool_calls" if calls else "stop") if place == len(said) else "null"
        choice = {"message": {"role": "assistant", **message}, "finish_reason": end}
        usage = {"input_tokens": INPUT, "output_tokens": place, "total_tokens": INPUT + place}
        data = {"output": {"choices": [choice]}, "usage": usage, "request_id": "r1"}
        yield f"id:{place}\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps(data)}\n\n"


def generate(words, model):
    """Hugging Face, "Text Generation Inference API"."""
    for place, word in enumerate(words, 1):
        last = place == len(words)
        details = {"finish_reason": "eos_token", "generated_tokens": len(words), "seed": None, "input_length": INPUT} if last else None
        token = {"id": 1, "text": word, "logprob": -0.5, "special": False}
        text = "".join(words) if last else None
        yield f"data:{json.dumps({'index': place, 'token': token, 'generated_text': text, 'details': details})}\n\n"


def frame(kind, payload):
    """AWS Smithy, "Amazon Event Stream Specification"."""
    header = lambda name, value: bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    headers = header(":event-type", kind) + header(":content-type", "application/json") + header(":message-type", "event")
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def converse_events(words, calls):
    """Amazon, "ConverseStream": its events, which Nova's own stream has, too."""
    yield ("messageStart", {"role": "assistant"})
    for word in words:
        yield ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}})
    yield ("contentBlockStop", {"contentBlockIndex": 0})
    for place, (name, pieces) in enumerate(calls, 1):
        yield ("contentBlockStart", {"contentBlockIndex": place, "start": {"toolUse": {"toolUseId": f"t{place}", "name": name}}})
        for piece in pieces:
            yield ("contentBlockDelta", {"contentBlockIndex": place, "delta": {"toolUse": {"input": piece}}})
        yield ("contentBlockStop", {"contentBlockIndex": place})
    yield ("messageStop", {"stopReason": "tool_use" if calls else "end_turn"})
    usage = {"inputTokens": INPUT, "outputTokens": len(words), "totalTokens": INPUT + len(words)}
    yield ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})


def converse(words, model, calls=()):
    """… each in a frame."""
    for kind, payload in converse_events(words, calls):
        yield frame(kind, payload)


def nova(words, calls):
    """Amazon, "Complete request schema" of Nova."""
    for kind, payload in converse_events(words, calls):
        yield {kind: payload, **({"amazon-bedrock-invocationMetrics": {}} if kind == "metadata" else {})}


def invoke(words, model, calls=()):
    """Amazon, "InvokeModelWithResponseStream", of a model of Anthropic's or Nova."""
    for event in nova(words, calls) if "nova" in model else anthropic_events(words, model, calls):
        if event.get("type") == "message_stop":
            event["amazon-bedrock-invocationMetrics"] = {"inputTokenCount": INPUT, "outputTokenCount": len(words)}
        yield frame("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode()})


EVENTS, LINES, BINARY = "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"
TONGUES = [
    (r"/responses$", EVENTS, responses),
    (r"/chat/completions$", EVENTS, chat),
    (r"/completions$", EVENTS, completions),
    (r"/v1/messages$", EVENTS, messages),
    (r"/v1/complete$", EVENTS, anthropic_complete),
    (r":streamGenerateContent\?.*alt=sse", EVENTS, gemini_sse),
    (r":streamGenerateContent", "application/json; charset=UTF-8", gemini_array),
    (r"/interactions$", EVENTS, interactions),
    (r"/v2/chat$", EVENTS, cohere_v2),
    (r"/v1/chat$", "application/stream+json", cohere_v1),
    (r"/api/chat$", LINES, lambda words, model, calls=(): ollama(words, model, lambda word: {"message": {"role": "assistant", "content": word}}, calls)),
    (r"/api/generate$", LINES, lambda words, model: ollama(words, model, lambda word: {"response": word})),
    (r"/aigc/text-generation/generation$", EVENTS, dashscope),
    (r"/generate_stream$", EVENTS, generate),
    (r"/converse-stream$", BINARY, converse),
    (r"/invoke-with-response-stream$", BINARY, invoke),
]


class Tongues(Server):
    """The upstream, on a port of its own. Its answers have so many `words`, or are what is `said` in pieces, and then `calls` of tools;
    `heard` is the last request. Before the event at the place `pause[0]` and those behind it they pause for `pause[1]` seconds. Before that
    at the place `between[0]` those of `between[1]` come."""

    def __init__(self, words, said=None):
        self.words, self.said, self.calls, self.heard, self.pause, self.between = words, said, (), None, None, None
        upstream = self

        class Speaks(Handler):
            def do_POST(self):
                body = upstream.heard = json.loads(self.body())
                kind, tongue = next((kind, tongue) for path, kind, tongue in TONGUES if re.search(path, self.path))
                named = re.search(r"/models?/([^/:]+)", self.path)
                model = named[1] if named else body.get("model", "demo")
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                # A client that leaves is no fault of this server's.
                try:
                    self.stream(tongue(upstream.said or [WORD] * upstream.words, model, *([upstream.calls] if upstream.calls else [])))
                except OSError:
                    self.close_connection = True

            def stream(self, events):
                for place, event in enumerate(upstream.woven(events)):
                    if upstream.pause and place >= upstream.pause[0]:
                        time.sleep(upstream.pause[1])
                    data = event if isinstance(event, bytes) else event.encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    if place % 500 == 0:
                        time.sleep(0.01)
                self.wfile.write(b"0\r\n\r\n")

        super().__init__(Speaks)

    def woven(self, events):
        for place, event in enumerate(events):
            if self.between and place == self.between[0]:
                yield from self.between[1]
            yield event
