#!/usr/bin/env python3
"""SparseGPT, GPTQ, exact OBC, Gram matrix and inverse in plain PyTorch, timed: what the CUDA kernels
are measured against.

Written from the papers' pseudo-code: Frantar & Alistarh 2023, "SparseGPT", algorithm 1; Frantar et
al. 2022, "GPTQ", algorithm 1; Frantar & Alistarh 2022, "Optimal Brain Compression", algorithm 1 with
rows in batches, where each step rewrites the whole inverse of each row of the batch.

The layer problems are .npy files that benchmarks/SolverSpeed.java has written: for each shape
<rows>x<cols>-W.npy [rows, cols] and <rows>x<cols>-X.npy [samples, cols], float32. A line of JSON is
printed for each operation and shape: seconds (median of the repetitions, after one to warm up,
between synchronisations), the layer-wise error of what came out, and how it was measured.

  python3 benchmarks/sparsegpt_torch.py FOLDER [--device cuda|cpu] [--sparsity 0.5] [--repeat 5]
"""
import argparse
import json
import pathlib
import re
import statistics
import sys
import time

DAMPING = 0.01
BLOCK = 128


def damped(hessian):
    """H with dead columns made harmless and 1 % of its mean diagonal added: [n, n]."""
    h = hessian.clone()
    diagonal = torch.diagonal(h)
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += DAMPING * torch.mean(diagonal)
    return h, dead


def inverse_factor(h):
    """The upper Cholesky factor of H^-1, by way of the inverse, as the published loops do."""
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)


def sparsegpt(weights, hessian, sparsity):
    """SparseGPT: columns in blocks of 128, the mask of a block chosen when the sweep reaches it."""
    rows, cols = weights.shape
    h, dead = damped(hessian)
    w = weights.clone()
    w[:, dead] = 0
    factor = inverse_factor(h)
    for begin in range(0, cols, BLOCK):
        end = min(begin + BLOCK, cols)
        local = factor[begin:end, begin:end]
        block = w[:, begin:end].clone()
        saliency = (block / torch.diagonal(local)) ** 2
        count = -(-(end - begin) * rows * round(1000 * sparsity) // 1000)
        removed = torch.zeros(saliency.numel(), dtype=torch.bool, device=w.device)
        removed[torch.argsort(saliency.flatten())[:count]] = True
        removed = removed.reshape(saliency.shape)
        errors = torch.zeros_like(block)
        for j in range(end - begin):
            column = block[:, j]
            kept = torch.where(removed[:, j], torch.zeros_like(column), column)
            errors[:, j] = (column - kept) / local[j, j]
            block[:, j:] -= errors[:, j : j + 1] @ local[j : j + 1, j:]
            block[:, j] = kept
        w[:, begin:end] = block
        w[:, end:] -= errors @ factor[begin:end, end:]
    return w


def gptq(weights, hessian, bits):
    """GPTQ: the same sweep; what a column loses is the distance to its row's grid, min to max."""
    _, cols = weights.shape
    h, dead = damped(hessian)
    w = weights.clone()
    w[:, dead] = 0
    levels = 2**bits - 1
    low = torch.clamp(w.min(dim=1).values, max=0)
    high = torch.clamp(w.max(dim=1).values, min=0)
    scale = (high - low) / levels
    scale[scale == 0] = 1
    zero = torch.round(-low / scale)
    factor = inverse_factor(h)
    for begin in range(0, cols, BLOCK):
        end = min(begin + BLOCK, cols)
        local = factor[begin:end, begin:end]
        block = w[:, begin:end].clone()
        errors = torch.zeros_like(block)
        for j in range(end - begin):
            column = block[:, j]
            code = torch.clamp(torch.round(column / scale) + zero, 0, levels)
            kept = scale * (code - zero)
            errors[:, j] = (column - kept) / local[j, j]
            block[:, j:] -= errors[:, j : j + 1] @ local[j : j + 1, j:]
            block[:, j] = kept
        w[:, begin:end] = block
        w[:, end:] -= errors @ factor[begin:end, end:]
    return w


def obc_batch(weights, inverse, steps):
    """Greedy elimination of a batch of rows, all of H^-1 rewritten at each step.

    weights: [batch, n]; inverse: [n, n]. Returns the losses and the columns in their order, both
    [batch, steps].
    """
    batch, n = weights.shape
    w = weights.clone()
    h = inverse.repeat(batch, 1, 1)
    gone = torch.zeros(batch, n, dtype=torch.bool, device=w.device)
    rows = torch.arange(batch, device=w.device)
    losses = torch.zeros(batch, steps, dtype=w.dtype, device=w.device)
    order = torch.zeros(batch, steps, dtype=torch.long, device=w.device)
    for step in range(steps):
        diagonal = torch.diagonal(h, dim1=1, dim2=2)
        scores = w**2 / diagonal
        scores[gone] = float("inf")
        losses[:, step], column = torch.min(scores, dim=1)
        order[:, step] = column
        gone[rows, column] = True
        pivot = diagonal[rows, column]
        line = h[rows, column]  # [batch, n]; H^-1 is symmetric
        w -= line * (w[rows, column] / pivot).unsqueeze(1)
        w[rows, column] = 0
        line = line / torch.sqrt(pivot).unsqueeze(1)
        h -= line.unsqueeze(2) * line.unsqueeze(1)
        # What is gone is never looked at again, and must not become 0 / 0.
        h[rows, column, column] = 1
    return losses, order


def obc(weights, hessian, sparsity, batch, deepest):
    """Exact OBC: all rows to the deepest sparsity, a threshold over all losses, a refit of each row."""
    rows, cols = weights.shape
    h, dead = damped(hessian)
    w = weights.clone()
    w[:, dead] = 0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    steps = max(1, round(deepest * cols))
    traces = [obc_batch(w[at : at + batch], inverse, steps) for at in range(0, rows, batch)]
    losses = torch.cat([trace[0] for trace in traces])
    order = torch.cat([trace[1] for trace in traces])
    # Of all losses the smallest are chosen; a row removes as many weights as it has of these.
    count = -(-rows * cols * round(1000 * sparsity) // 1000)
    chosen = torch.zeros(losses.numel(), dtype=torch.bool, device=w.device)
    chosen[torch.argsort(losses.flatten(), stable=True)[:count]] = True
    counts = chosen.reshape(losses.shape).sum(dim=1, keepdim=True)
    first = torch.arange(steps, device=w.device).unsqueeze(0) < counts
    removed = torch.zeros(rows, cols, dtype=torch.bool, device=w.device)
    removed.scatter_(1, order, first)
    target = w @ h
    for row in range(rows):
        kept = torch.nonzero(~removed[row]).flatten()
        part = h[kept][:, kept].double()
        solved = torch.cholesky_solve(
            target[row, kept].double().unsqueeze(1), torch.linalg.cholesky(part)
        )
        w[row] = 0
        w[row, kept] = solved.flatten().to(w.dtype)
    return w


def layer_error(before, after, hessian):
    """tr(dW H dW^T) / tr(W H W^T), in double."""
    h = hessian.double()
    w = before.double()
    d = after.double() - w
    return (((d @ h) * d).sum() / ((w @ h) * w).sum()).item()


class Clock:
    """Medians of times between synchronisations of the device."""

    def __init__(self, device, repeat):
        self.device = device
        self.repeat = repeat

    def now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def time(self, work, repeat=None):
        result = work()  # libraries are loaded, memory is there
        seconds = []
        for _ in range(self.repeat if repeat is None else repeat):
            start = self.now()
            result = work()
            seconds.append(self.now() - start)
        return result, statistics.median(seconds)


def batch_of(cols, device):
    """As many rows as a quarter of the memory has room for copies of H^-1, 32 at most."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = 8 << 30
    return max(1, min(32, int(memory / 4 / (2 * 4 * cols * cols))))


def measure(folder, shape, arguments, device):
    rows, cols = shape
    name = f"{rows}x{cols}"
    weights = torch.from_numpy(numpy.load(folder / f"{name}-W.npy")).to(device)
    x = torch.from_numpy(numpy.load(folder / f"{name}-X.npy")).to(device)
    samples = x.shape[0]
    clock = Clock(device, arguments.repeat)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"

    def report(operation, seconds, **more):
        line = {
            "side": "torch",
            "operation": operation,
            "rows": rows,
            "cols": cols,
            "seconds": seconds,
            **more,
            "device": what,
            "torch": torch.__version__,
        }
        print(json.dumps(line), flush=True)

    gram, seconds = clock.time(lambda: x.T @ x)
    report("gram", seconds, gflop=2e-9 * samples * cols * cols, samples=samples, note="SGEMM")
    hessian = gram * (2.0 / samples)
    h, _ = damped(hessian)
    wide = h.double()
    _, seconds = clock.time(lambda: torch.cholesky_inverse(torch.linalg.cholesky(wide)))
    report("inverse", seconds, gflop=1e-9 * cols**3, note="float64")

    sparsity = arguments.sparsity
    pruned, seconds = clock.time(lambda: sparsegpt(weights, hessian, sparsity))
    report("fastobc", seconds, error=layer_error(weights, pruned, hessian), sparsity=sparsity)
    quantised, seconds = clock.time(lambda: gptq(weights, hessian, arguments.bits))
    report("gptq", seconds, error=layer_error(weights, quantised, hessian), bits=arguments.bits)

    batch = min(rows, arguments.batch or batch_of(cols, device))
    deepest = arguments.deepest
    if arguments.whole_obc:
        pruned, seconds = clock.time(
            lambda: obc(weights, hessian, arguments.obc_sparsity, batch, deepest), 1
        )
        report(
            "obc",
            seconds,
            error=layer_error(weights, pruned, hessian),
            sparsity=arguments.obc_sparsity,
            batch=batch,
        )
    else:
        # Every step does the same work, so some steps of one batch stand for all.
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
        steps = round(deepest * cols)
        some = min(steps, arguments.obc_steps)
        part = weights[:batch].clone()
        _, seconds = clock.time(lambda: obc_batch(part, inverse, some))
        batches = -(-rows // batch)
        report(
            "obc",
            seconds / some * steps * batches,
            sparsity=arguments.obc_sparsity,
            batch=batch,
            note=f"{some} of {steps} steps of 1 of {batches} batches measured",
        )


def main():
    global numpy, torch
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--sparsity", type=float, default=0.5, help="of SparseGPT")
    parser.add_argument("--obc-sparsity", type=float, default=0.8)
    parser.add_argument("--deepest", type=float, default=0.9, help="to which OBC's rows are run")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batch", type=int, help="rows at once of OBC; default: by memory, 32 at most")
    parser.add_argument("--obc-steps", type=int, default=32, help="measured, the rest is estimated")
    parser.add_argument("--whole-obc", action="store_true", help="run OBC to its end")
    arguments = parser.parse_args()
    try:  # not before the help
        import numpy
        import torch
    except ImportError as error:
        print(f"sparsegpt_torch.py: {sys.executable} cannot import {error.name}: {error};"
              " install numpy and PyTorch for it, or run another python3", file=sys.stderr)
        return 7
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("sparsegpt_torch.py: this PyTorch sees no GPU", file=sys.stderr)
        return 7
    # float32 means float32, on both sides.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device(arguments.device)
    shapes = sorted(
        (int(match[1]), int(match[2]))
        for match in (re.fullmatch(r"(\d+)x(\d+)-W\.npy", f.name) for f in arguments.folder.iterdir())
        if match
    )
    if not shapes:
        print(f"sparsegpt_torch.py: no layer problems in {arguments.folder}", file=sys.stderr)
        return 2
    with torch.no_grad():
        for shape in shapes:
            measure(arguments.folder, shape, arguments, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
