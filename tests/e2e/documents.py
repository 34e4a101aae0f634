"""An upstream that answers every call with one document; and of each dialect the body of a call, the document that answers it, one that
calls a tool, and where an error has its words."""

import json
import time

from server import Handler, Server
from whole import key

PROMPT = "Sing me a song of " + "many " * 400 + "words."


def messages(prompt):
    return [{"role": "user", "content": prompt}]


def document(text):
    return {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}


CLAUDE = "/model/anthropic.demo/invoke"
# Of each dialect: the path of a document and of a stream, the body, what makes a stream of it beside, and the document.
DIALECTS = {
    "openai chat": ("/v1/chat/completions", None, lambda p: {"model": "demo", "messages": messages(p)}, lambda t: {"choices": [{"index": 0, "message": {"role": "assistant", "content": t}, "finish_reason": "stop"}]}),
    "openai responses": ("/v1/responses", None, lambda p: {"model": "demo", "input": p}, lambda t: {"output": [{"type": "message", "content": [{"type": "output_text", "text": t}]}], "status": "completed"}),
    "openai completions": ("/v1/completions", None, lambda p: {"model": "demo", "prompt": p}, lambda t: {"choices": [{"index": 0, "text": t, "finish_reason": "stop"}]}),
    "anthropic messages": ("/v1/messages", None, lambda p: {"model": "demo", "max_tokens": 50, "messages": messages(p)}, document),
    "anthropic complete": ("/v1/complete", None, lambda p: {"model": "demo", "max_tokens_to_sample": 50, "prompt": p}, lambda t: {"completion": t, "stop_reason": "stop_sequence"}),
    "gemini generate": ("/v1beta/models/demo:generateContent", "/v1beta/models/demo:streamGenerateContent?alt=sse", lambda p: {"contents": [{"role": "user", "parts": [{"text": p}]}]}, lambda t: {"candidates": [{"content": {"role": "model", "parts": [{"text": t}]}, "finishReason": "STOP", "index": 0}]}),
    "gemini interactions": ("/v1beta/interactions", None, lambda p: {"model": "demo", "input": p}, lambda t: {"id": "i", "outputs": [{"type": "text", "text": t}], "status": "completed"}),
    "bedrock converse": ("/model/demo/converse", "/model/demo/converse-stream", lambda p: {"messages": [{"role": "user", "content": [{"text": p}]}]}, lambda t: {"output": {"message": {"role": "assistant", "content": [{"text": t}]}}, "stopReason": "end_turn"}),
    "bedrock invoke": (CLAUDE, f"{CLAUDE}-with-response-stream", lambda p: {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": messages(p)}, document),
    "cohere v2": ("/v2/chat", None, lambda p: {"model": "demo", "messages": messages(p)}, lambda t: {"message": {"role": "assistant", "content": [{"type": "text", "text": t}]}, "finish_reason": "COMPLETE"}),
    "cohere v1": ("/v1/chat", None, lambda p: {"model": "demo", "message": p}, lambda t: {"text": t, "generation_id": "g", "finish_reason": "COMPLETE"}),
    "ollama chat": ("/api/chat", None, lambda p: {"model": "demo", "messages": messages(p)}, lambda t: {"model": "demo", "message": {"role": "assistant", "content": t}, "done": True}),
    "ollama generate": ("/api/generate", None, lambda p: {"model": "demo", "prompt": p}, lambda t: {"model": "demo", "response": t, "done": True}),
    "dashscope": ("/api/v1/services/aigc/text-generation/generation", None, lambda p: {"model": "demo", "input": {"messages": messages(p)}, "parameters": {"result_format": "message"}}, lambda t: {"output": {"choices": [{"message": {"role": "assistant", "content": t}, "finish_reason": "stop"}]}, "request_id": "r"}),
    "generate": ("/generate", "/generate_stream", lambda p: {"inputs": p, "parameters": {"max_new_tokens": 50}}, lambda t: {"generated_text": t}),
}


def openais(name, with_):
    return [{"id": "t", "type": "function", "function": {"name": name, "arguments": json.dumps(with_)}}]


def claudes(name, with_):
    return {"type": "message", "role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": name, "input": with_}], "stop_reason": "tool_use"}


# A document that calls a tool, in each dialect that has them.
CALLS = {
    "openai chat": lambda n, a: {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": openais(n, a)}, "finish_reason": "tool_calls"}]},
    "openai responses": lambda n, a: {"output": [{"type": "function_call", "call_id": "t", "name": n, "arguments": json.dumps(a)}], "status": "completed"},
    "anthropic messages": claudes,
    "gemini generate": lambda n, a: {"candidates": [{"content": {"role": "model", "parts": [{"functionCall": {"name": n, "args": a}}]}, "finishReason": "STOP"}]},
    "gemini interactions": lambda n, a: {"outputs": [{"type": "function_call", "id": "t", "name": n, "arguments": a}], "status": "requires_action"},
    "bedrock converse": lambda n, a: {"output": {"message": {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": n, "input": a}}]}}, "stopReason": "tool_use"},
    "bedrock invoke": claudes,
    "cohere v2": lambda n, a: {"message": {"role": "assistant", "tool_calls": openais(n, a)}, "finish_reason": "TOOL_CALL"},
    "cohere v1": lambda n, a: {"text": "", "tool_calls": [{"name": n, "parameters": a}], "finish_reason": "COMPLETE"},
    "ollama chat": lambda n, a: {"model": "demo", "message": {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": n, "arguments": a}}]}, "done": True},
    "dashscope": lambda n, a: {"output": {"choices": [{"message": {"role": "assistant", "content": "", "tool_calls": openais(n, a)}, "finish_reason": "tool_calls"}]}},
}


class Answers(Server):
    """An upstream that answers every call with one document, counts them and keeps the last. It is slow by `delay` seconds before its
    headers and by `stall` behind them; models that are `down` are answered 503. Where the length is not `announced`, `trailers` may end it."""

    def __init__(self):
        self.said, self.calls, self.heard, self.announced = b"{}", 0, None, True
        self.delay, self.stall, self.down, self.kind, self.trailers = 0, 0, (), "application/json", b""
        answers = self

        class Says(Handler):
            def do_POST(self):
                body = self.body()
                # A form is kept as it is.
                heard = answers.heard = json.loads(body) if body[:1] in (b"{", b"[") else {"form": body}
                answers.calls += 1
                time.sleep(answers.delay)
                self.send_response(503 if heard.get("model") in answers.down else 200)
                self.send_header("content-type", answers.kind)
                chunks = not answers.announced
                self.send_header(*(("transfer-encoding", "chunked") if chunks else ("content-length", str(len(answers.said)))))
                self.end_headers()
                time.sleep(answers.stall)
                # A client that was answered by somebody else has left.
                try:
                    self.wfile.write(b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(answers.said), answers.said, answers.trailers) if chunks else answers.said)
                except OSError:
                    self.close_connection = True

            do_GET = do_POST

        super().__init__(Says)


def ask(stack, plan, dialect, stream=False, prompt=PROMPT, said="fine", more=None, whole=None):
    """The answer, and whether the call reached its upstream. `whole`: the document that answers, or its bytes, if not one
    that says `said`."""
    house, upstream = stack
    path, streamed, body, answer = DIALECTS[dialect]
    upstream.said, before = whole if isinstance(whole, bytes) else json.dumps(whole or answer(said)).encode(), upstream.calls
    asked, headers = {**body(prompt), **(more or {})}, {"authorization": f"Bearer {key(plan)}"}
    if dialect == "dashscope":
        headers |= {"x-dashscope-sse": "enable"} if stream else {}
    elif streamed is None:
        asked["stream"] = stream
    answer = house.session.post(house.url + (streamed if stream and streamed else path), json=asked, headers=headers, timeout=30)
    return answer, upstream.calls - before


def complaint(dialect, answer):
    """The words of an error, from where this dialect has them."""
    body = answer.json()
    if dialect.startswith("openai"):
        return body["error"]["message"] if body["error"]["code"] and body["error"]["type"] else None
    if dialect.startswith("anthropic"):
        return body["error"]["message"] if body["type"] == "error" and body["error"]["type"] else None
    if dialect.startswith("gemini"):
        return body["error"]["message"] if "status" in body["error"] or "code" in body["error"] else None
    return body["error"] if isinstance(body.get("error"), str) else body["message"]
