"""Runs a transformer of random weights under PyTorch: prefills, decode steps and batches, with a static KV cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mbexp.config.cards import ModelCard
from mbexp.errors import UserError
from mbexp.measure.plan import Point
from mbexp.measure.session import OutOfMemory

# With CUDA graphs a step is captured once for each block of this many tokens of context, and attends to all of them.
CONTEXT_BLOCK_TOKENS = 64


def import_torch() -> Any:
    """Return the module `torch`, where it and Transformers are installed.

    Raises
    ------
    UserError
        In one line, where they are not.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(f"needs PyTorch and Transformers ({error}): pip install 'mbexp[gpu]'") from None
    return torch


def check_device(device: str) -> None:
    """Raise `UserError`, in one line, where `device` is not here."""
    torch = import_torch()
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            "no GPU here (PyTorch sees no CUDA device); to try the instrument without one: --device cpu --model tiny"
        )


def build_model(card: ModelCard, dtype: str, device: str, seed: int = 0) -> Any:
    """Return a causal language model of the architecture of `card`, with random weights.

    The values of the weights change nothing in the time of a matrix product, so none are downloaded.
    """
    torch = import_torch()
    from transformers import AutoModelForCausalLM, Qwen3Config

    config = Qwen3Config(
        vocab_size=card.vocabulary,
        hidden_size=card.hidden,
        intermediate_size=card.mlp,
        num_hidden_layers=card.layers,
        num_attention_heads=card.query_heads,
        num_key_value_heads=card.kv_heads,
        head_dim=card.head_dim,
        max_position_embeddings=card.longest_context_tokens,
        tie_word_embeddings=card.tied_embeddings,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


class StaticCache:
    """Keys and values of all layers, allocated once; a step sees the first `visible` positions.

    It answers the calls that an attention layer of Transformers makes of its cache. The library's own static cache
    masks positions instead of leaving them out, which takes attention off its fast path and reads the whole cache.

    Attributes
    ----------
    position : int64 tensor, shape (1,)
        Where a decode step writes; on the device, so that a captured step advances by itself.
    visible : int
        Positions that the next call attends to.
    """

    def __init__(self, card: ModelCard, batch_size: int, length: int, dtype: Any, device: str) -> None:
        torch = import_torch()
        shape = (batch_size, card.kv_heads, length, card.head_dim)
        self.keys = [torch.empty(shape, dtype=dtype, device=device).normal_() for _ in range(card.layers)]
        self.values = [torch.empty(shape, dtype=dtype, device=device).normal_() for _ in range(card.layers)]
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.visible = 0

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write what is new and return all that is visible; a prompt is written from the start."""
        if keys.shape[2] > 1:
            self.keys[layer][:, :, : keys.shape[2]] = keys
            self.values[layer][:, :, : values.shape[2]] = values
        else:
            self.keys[layer].index_copy_(2, self.position, keys)
            self.values[layer].index_copy_(2, self.position, values)
        return self.keys[layer][:, :, : self.visible], self.values[layer][:, :, : self.visible]

    def get_seq_length(self, layer: int = 0) -> int:
        """Return how many positions the next call attends to."""
        return self.visible


class TorchEngine:
    """Runs points on a device.

    Parameters
    ----------
    card
        Architecture; the weights are random.
    dtype
        ``float16`` or ``bfloat16`` (``float32`` on a CPU).
    device
        ``cuda`` or ``cpu``.
    cuda_graphs
        Capture decode steps and replay them, so that launching kernels costs nothing. Prefills are never captured.
    """

    def __init__(self, card: ModelCard, dtype: str, device: str = "cuda", cuda_graphs: bool = True) -> None:
        check_device(device)
        if cuda_graphs and not device.startswith("cuda"):
            raise UserError(f"CUDA graphs need a CUDA device, not {device}: --cuda-graphs off")
        self.torch = import_torch()
        self.card, self.device, self.cuda_graphs = card, device, cuda_graphs
        self.model = build_model(card, dtype, device)
        self.generator = self.torch.Generator(device=device).manual_seed(0)
        self.cache: Any = None
        self.prompt: Any = None
        self.token: Any = None
        self._ends: list[int] = []
        self._graphs: dict[int, Any] = {}
        self._pool: Any = None

    def load(self, point: Point) -> tuple[Callable[[], None], Callable[[], None]]:
        """See `mbexp.measure.session.Engine`."""
        if self.device.startswith("cuda"):
            self.torch.cuda.reset_peak_memory_stats()
        try:
            return self._load(point)
        except RuntimeError as error:
            raise self._explain(error) from error

    def load_batch(self, point: Point) -> Callable[[], tuple[float, float]]:
        """Prepare a static batch; what is returned runs it and gives the seconds of its prefill and its decoding."""
        renew, _ = self.load(point)
        renew()
        return lambda: (self.time(lambda: self._prefill(point.prompt_tokens)), self.time(self._decode_all))

    def time(self, work: Callable[[], None]) -> float:
        """Return the seconds of `work`, by device events where there is a device."""
        torch = self.torch
        try:
            if not self.device.startswith("cuda"):
                began = time.perf_counter()
                work()
                return time.perf_counter() - began
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end)) / 1e3
        except RuntimeError as error:
            raise self._explain(error) from error

    def peak_memory_bytes(self) -> int:
        """Return the most that was allocated since the last `load`; 0 on a CPU."""
        return int(self.torch.cuda.max_memory_allocated()) if self.device.startswith("cuda") else 0

    def unload(self) -> None:
        """Free caches and captured steps."""
        self._graphs, self._pool = {}, None
        self.cache = self.prompt = self.token = None
        if self.device.startswith("cuda"):
            self.torch.cuda.empty_cache()

    def _explain(self, error: RuntimeError) -> Exception:
        """Return `OutOfMemory` for what means that, also where a library says it in its own words."""
        text = str(error).lower()
        if isinstance(error, self.torch.cuda.OutOfMemoryError) or "out of memory" in text or "allocate memory" in text:
            return OutOfMemory(str(error))
        return error

    def _load(self, point: Point) -> tuple[Callable[[], None], Callable[[], None]]:
        torch = self.torch
        block = CONTEXT_BLOCK_TOKENS if self.cuda_graphs else 1
        length = -(-point.longest_tokens // block) * block
        dtype = next(self.model.parameters()).dtype
        self.cache = StaticCache(self.card, point.batch_size, length, dtype, self.device)
        shape = (point.batch_size, max(1, point.prompt_tokens))
        self.prompt = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.token = torch.zeros((point.batch_size, 1), dtype=torch.int64, device=self.device)
        self.prompt_positions = torch.arange(shape[1], device=self.device)[None]
        if point.phase == "prefill":
            return self._renew_prompt, lambda: self._prefill(point.prompt_tokens)
        if point.phase == "decode":
            visible = -(-point.context_tokens // block) * block
            self._capture(visible)
            return lambda: self._renew_token(point.context_tokens - 1), lambda: self._step(visible)
        self._ends = [-(-end // block) * block for end in range(point.prompt_tokens + 1, point.longest_tokens)]
        for visible in sorted(set(self._ends)):
            self._capture(visible)

        def serve() -> None:
            self._prefill(point.prompt_tokens)
            self._decode_all()

        return self._renew_prompt, serve

    def _renew_prompt(self) -> None:
        self.prompt.random_(0, self.card.vocabulary, generator=self.generator)

    def _renew_token(self, position: int) -> None:
        self.token.random_(0, self.card.vocabulary, generator=self.generator)
        self.cache.position.fill_(position)

    def _prefill(self, prompt_tokens: int) -> None:
        """Read the prompts and choose the first token of each."""
        self.cache.visible = prompt_tokens
        self._forward(self.prompt, self.prompt_positions)
        self.cache.position.fill_(prompt_tokens)

    def _decode_all(self) -> None:
        """Decode every token after the first."""
        for visible in self._ends:
            self._step(visible)

    def _step(self, visible: int) -> None:
        """Decode one token of each sequence: write its keys, attend to `visible` positions, choose the next."""
        if visible in self._graphs:
            self._graphs[visible].replay()
        else:
            self._decode(visible)

    def _decode(self, visible: int) -> None:
        self.cache.visible = visible
        self._forward(self.token, self.cache.position[None])
        self.cache.position.add_(1)

    def _forward(self, tokens: Any, positions: Any) -> None:
        logits = self.model(
            input_ids=tokens,
            position_ids=positions,
            past_key_values=self.cache,
            attention_mask={"full_attention": None},  # nothing to mask: causal prompts of one length, visible positions
            use_cache=True,
            logits_to_keep=1,
        ).logits
        self.token.copy_(logits[:, -1].argmax(-1, keepdim=True))

    def _capture(self, visible: int) -> None:
        if not self.cuda_graphs or visible in self._graphs:
            return
        torch = self.torch
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # lazy set-up of libraries must not be captured
            for _ in range(2):
                self.cache.position.fill_(visible - 1)
                self._decode(visible)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._decode(visible)
        self._pool = self._pool or graph.pool()
        self._graphs[visible] = graph
