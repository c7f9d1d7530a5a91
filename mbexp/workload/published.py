"""The published traces and recorded runs: where each is, how long it is and the hash that it must have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One file of a published trace; `sha256` and `size_bytes` are None where nothing to check against is known."""

    name: str
    title: str
    file: str
    url: str
    size_bytes: int | None
    sha256: str | None
    licence: str
    rows: str


_BURSTGPT = "https://github.com/HPMLL/BurstGPT/releases/download"
_AZURE = "https://github.com/Azure/AzurePublicDataset"
_MOONCAKE = "https://github.com/kvcache-ai/Mooncake/raw/main/FAST25-release/traces"

_LLMSERVINGSIM = (
    "https://github.com/casys-kaist/LLMServingSim/raw/5daddb21a545658d5150b535712d0494584b5278/bench/examples"
)


def _vllm_run(card: str, requests: tuple[int, str], about: tuple[int, str]) -> tuple[Published, Published]:
    """Return a recorded run of vLLM 0.19 and the file of its limits, which is read beside it."""
    name = f"vllm_{card.lower()}_llama31_8b"
    return tuple(
        Published(
            name=name + ending,
            title=f"vLLM 0.19.0 on {card}, Llama-3.1-8B: {what}, LLMServingSim 5daddb2",
            file=f"{name}{suffix}",
            url=f"{_LLMSERVINGSIM}/{card}/Llama-3.1-8B/vllm/{there}",
            size_bytes=size_bytes,
            sha256=sha256,
            licence="MIT",
            rows=rows,
        )
        for ending, what, suffix, there, rows, (size_bytes, sha256) in (
            ("", "300 requests", ".jsonl", "requests.jsonl", "300", requests),
            ("_meta", "its limits", ".meta.json", "meta.json", "-", about),
        )
    )  # type: ignore[return-value]


def _burstgpt(tag: str, number: int, without_failures: bool, rows: str, size_bytes: int, sha256: str) -> Published:
    middle = "_without_fails" if without_failures else ""
    return Published(
        name=f"burstgpt{middle}_{number}",
        title=f"BurstGPT {number}" + (" without failures" if without_failures else ""),
        file=f"BurstGPT{middle}_{number}.csv",
        url=f"{_BURSTGPT}/{tag}/BurstGPT{middle}_{number}.csv",
        size_bytes=size_bytes,
        sha256=sha256,
        licence="CC-BY-4.0",
        rows=rows,
    )


PUBLISHED = (
    _burstgpt(
        "v1.1", 1, False, "1,429,737", 52_283_111, "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122"
    ),
    _burstgpt(
        "v1.1", 2, False, "3.86 M", 144_819_209, "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7"
    ),
    _burstgpt(
        "v2.0", 3, False, "5,344,021", 231_682_327, "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f"
    ),
    _burstgpt(
        "v1.1", 1, True, "1,404,294", 51_429_517, "a4d068a7113ec0290e74063a1b3447dc6001a30e4298eb313581b71006dda1f4"
    ),
    _burstgpt(
        "v1.1", 2, True, "3,784,213", 142_376_815, "56193aa9b2bb26128ded43d2d29a960df6bf5af062bcfc9b005f3fcaa4e6e501"
    ),
    _burstgpt(
        "v2.0", 3, True, "4,956,058", 217_312_026, "3326259f9efb11845bc5ef85fa97e6f691050b0974621c91ef22acd566c43a40"
    ),
    Published(
        name="azure_2023_conversation",
        title="Azure 2023 conversation trace",
        file="AzureLLMInferenceTrace_conv.csv",
        url=f"{_AZURE}/raw/master/data/AzureLLMInferenceTrace_conv.csv",
        size_bytes=719_188,
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        licence="CC-BY-4.0",
        rows="19,366",
    ),
    Published(
        name="azure_2023_code",
        title="Azure 2023 code trace",
        file="AzureLLMInferenceTrace_code.csv",
        url=f"{_AZURE}/raw/master/data/AzureLLMInferenceTrace_code.csv",
        size_bytes=320_117,
        sha256="54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        licence="CC-BY-4.0",
        rows="8,819",
    ),
    Published(
        name="mooncake_conversation",
        title="Mooncake conversation trace",
        file="mooncake_conversation_trace.jsonl",
        url=f"{_MOONCAKE}/conversation_trace.jsonl",
        size_bytes=3_029_533,
        sha256="b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        licence="Apache-2.0",
        rows="12,031",
    ),
    *_vllm_run(
        "RTX4090",
        (70_259, "5a6f2a0b09d5eb84bd75b30ed625d883c22b4bcc0a839cd1128ae42f74ecc90d"),
        (11_764, "56cbcb2a08e9fe6f67d60cad8ee545f86c874f82b46ab413da484f331417b2fc"),
    ),
    *_vllm_run(
        "RTXPRO6000",
        (71_451, "0175b31b0ddc02b97eb6da1410dc80fc5900b8785c988e90cacee1021d644682"),
        (708, "c074b29bddabe66102e3e635dd7910c35927c3f52b73d58d8fa0798f38156ae4"),
    ),
    Published(
        name="azure_2024_conversation",
        title="Azure 2024 conversation trace, one week",
        file="AzureLLMInferenceTrace_conv_1week.csv",
        url=f"{_AZURE}/releases/download/dataset-llm-2024/AzureLLMInferenceTrace_conv_1week.csv",
        size_bytes=None,
        sha256=None,
        licence="CC-BY-4.0",
        rows="27.3 M",
    ),
    Published(
        name="azure_2024_code",
        title="Azure 2024 code trace, one week",
        file="AzureLLMInferenceTrace_code_1week.csv",
        url=f"{_AZURE}/releases/download/dataset-llm-2024/AzureLLMInferenceTrace_code_1week.csv",
        size_bytes=None,
        sha256=None,
        licence="CC-BY-4.0",
        rows="16.8 M",
    ),
)


def published_by_sha256(sha256: str) -> Published | None:
    """Return the published file with this hash, or None."""
    return next((entry for entry in PUBLISHED if entry.sha256 == sha256), None)


def published_by_file(file_name: str) -> Published | None:
    """Return the published file of this name, whatever the case of its letters, or None."""
    return next((entry for entry in PUBLISHED if entry.file.lower() == file_name.lower()), None)
