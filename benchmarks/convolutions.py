"""Forms of the convolutions from and to one channel, with the same result: which is the fastest here?

python -m benchmarks.convolutions --json docs/performance/convolutions.json
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import command
from benchmarks.machine import interleaved
from unrolled.networks.narrow import conv_from_one, conv_to_one

FEATURES, K = 32, 5


def library(x: Tensor, kernel: Tensor) -> Tensor:
    """As the library does it when left alone."""
    return F.conv2d(x, kernel, padding=K // 2)


def taps_from_one(image: Tensor, kernel: Tensor) -> Tensor:
    """The image's 25 shifted copies, then a matrix product."""
    batch, _, height, width = image.shape
    taps = F.pad(image[:, 0], (K // 2,) * 4).unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
    return (taps.reshape(K * K, -1).T @ kernel.flatten(1).T).view(batch, height, width, -1).permute(0, 3, 1, 2)


def taps_to_one(maps: Tensor, kernel: Tensor) -> Tensor:
    """A matrix product to 25 images (a 1×1 convolution), then their shifted sum."""
    batch, channels, height, width = maps.shape
    taps = kernel[0].flatten(1).T @ maps.permute(0, 2, 3, 1).reshape(-1, channels).T
    taps = F.pad(taps.view(K, K, batch, height, width), (K // 2,) * 4)
    parts = [taps[i, j, :, i : i + height, j : j + width].to(torch.float32) for i in range(K) for j in range(K)]
    return torch.stack(parts).sum(0).unsqueeze(1)


def rows_to_one(maps: Tensor, kernel: Tensor) -> Tensor:
    """A 1×5 convolution to one image per row of the kernel, then their shifted sum."""
    height = maps.shape[2]
    rows = F.conv2d(maps, kernel[0].transpose(0, 1).unsqueeze(2), padding=(0, K // 2))
    rows = F.pad(rows, (0, 0, K // 2, K // 2))
    return sum(rows[:, i : i + 1, i : i + height].float() for i in range(K))


def padded_to_one(maps: Tensor, kernel: Tensor) -> Tensor:
    """A convolution to 16 channels, 15 of them zero: a width that libraries have kernels for."""
    return library(maps, F.pad(kernel, (0, 0, 0, 0, 0, 0, 0, 15)))[:, :1]


FORMS: dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "from one channel": {
        "library": library,
        "taps and product": taps_from_one,
        "chosen: library, channels last by strides": conv_from_one,
    },
    "to one channel": {
        "library": library,
        "library, padded to 16 channels": padded_to_one,
        "product to taps and fold": taps_to_one,
        "rows and fold": rows_to_one,
        "chosen: depthwise and sum": conv_to_one,
    },
}


def measure(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of every form, forward, and forward with backward."""
    device, rows = torch.device("cpu"), []
    for size in ((8, 66, 66), (1, 264, 264)):
        for kind in (torch.float32, torch.bfloat16):
            for direction, forms in FORMS.items():
                batch, height, width = size
                inputs, outputs = (1, FEATURES) if direction.startswith("from") else (FEATURES, 1)
                x = torch.randn(batch, inputs, height, width).to(kind, memory_format=torch.channels_last)
                kernel = (torch.randn(outputs, inputs, K, K) / K / inputs**0.5).to(kind)
                gradient = torch.randn(batch, outputs, height, width).to(memory_format=torch.channels_last)
                exact = library(x.float(), kernel.float())
                for form in forms.values():
                    error = (form(x, kernel).float() - exact).abs().max()
                    assert error < (1e-4 if kind is torch.float32 else 0.05), error
                runs = {}
                for name, form in forms.items():
                    runs[name, "forward"] = lambda f=form, x=x, k=kernel: _forward(f, x, k)
                    runs[name, "and backward"] = lambda f=form, x=x, k=kernel, g=gradient: _backward(f, x, k, g)
                for (name, what), seconds in interleaved(runs, device, rounds).items():
                    rows.append(
                        {
                            "size": "×".join(map(str, size)),
                            "type": str(kind).removeprefix("torch."),
                            "direction": direction,
                            "form": name,
                            "what": what,
                            "ms": 1e3 * seconds["median"],
                        }
                    )
    return rows


def _forward(form: Callable[[Tensor, Tensor], Tensor], x: Tensor, kernel: Tensor) -> None:
    with torch.no_grad():
        form(x, kernel)


def _backward(form: Callable[[Tensor, Tensor], Tensor], x: Tensor, kernel: Tensor, gradient: Tensor) -> None:
    x, kernel = x.detach().requires_grad_(), kernel.detach().requires_grad_()
    out = form(x, kernel)
    torch.autograd.grad(out, (x, kernel), gradient.to(out.dtype))


def table(rows: list[dict[str, Any]]) -> str:
    """Forms against sizes and types, in milliseconds: forward / forward and backward."""
    columns = sorted({(row["size"], row["type"]) for row in rows}, key=str)
    found = {(row["direction"], row["form"], row["what"], row["size"], row["type"]): row["ms"] for row in rows}
    lines = ["| ms, forward / with backward | " + " | ".join(f"{size}, {kind}" for size, kind in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for direction, forms in FORMS.items():
        for form in forms:
            pairs = (
                [found[direction, form, what, *column] for what in ("forward", "and backward")] for column in columns
            )
            cells = (f"{forward:.2f} / {both:.2f}" for forward, both in pairs)
            lines.append(f"| {direction}: {form} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    rows = measure(options.rounds)
    print(table(rows))
    command.write(options.json, {"rows": rows})


if __name__ == "__main__":
    main()
