#!/usr/bin/env python3
"""How fast PyTorch trains the project's networks: forward, backward and SGD (momentum 0.9, weight decay 5e-4) on
one batch of random images, cross-entropy, dropout on. Prints images/s: the median over the steps.

    python3 profiling/peers/torch_alexnet.py --net alexnet --batch 128 --steps 5 --threads 2

On a GPU the fastest known way is the default (channels_last, bf16 autocast, torch.compile max-autotune, the whole
step in one CUDA graph); on a CPU, eager fp32. Each can be chosen; --best tries the ways that have been fastest
somewhere (on a CPU: eager and compiled, each with both layouts) and takes the fastest here. With --rounds and --between it takes turns with another program, so that a GPU
that slows down does so for both: compiled once, its steps are timed after each run of the other.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import torch
    import nets
except ImportError as e:
    sys.exit(f"torch_alexnet.py: {e}: install PyTorch (python3 -m venv DIR; DIR/bin/pip install torch), "
             f"then run with DIR/bin/python")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--net", default="alexnet", choices=list(nets.INPUT))
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--steps", type=int, default=0, help="timed steps (default: 5 on a CPU, 50 on a GPU)")
    p.add_argument("--warmup", type=int, default=-1, help="steps before (default: 1 on a CPU, 10 on a GPU)")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    p.add_argument("--classes", type=int, default=1000)
    p.add_argument("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    p.add_argument("--layout", choices=["nchw", "nhwc"], help="nhwc is channels_last")
    p.add_argument("--precision", choices=["fp32", "tf32", "bf16"], help="bf16 is autocast")
    p.add_argument("--compile", choices=["off", "default", "max-autotune"])
    p.add_argument("--graph", choices=["on", "off"], help="the whole step in one CUDA graph")
    p.add_argument("--sgd", choices=["foreach", "fused"], default="foreach")
    p.add_argument("--best", action="store_true", help="try several ways, time the fastest")
    p.add_argument("--budget", type=float, default=120, help="seconds after which --best tries no other way")
    p.add_argument("--rounds", type=int, default=1, help="how often the steps are timed")
    p.add_argument("--between", metavar="COMMAND", help="run by the shell before each round, with ROUND=1, 2, ...")
    p.add_argument("--json", action="store_true", help="one JSON object instead of text")
    a = p.parse_args()
    a.device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
    gpu = a.device != "cpu"
    if gpu and not torch.cuda.is_available():
        sys.exit("torch_alexnet.py: --device cuda, but PyTorch sees no GPU")
    a.steps = a.steps or (50 if gpu else 5)
    a.warmup = a.warmup if a.warmup >= 0 else (10 if gpu else 1)
    a.layout = a.layout or ("nhwc" if gpu else "nchw")
    a.precision = a.precision or ("bf16" if gpu else "fp32")
    a.graph = a.graph or ("on" if gpu else "off")
    a.compile = a.compile or ("max-autotune" if gpu and hasattr(torch, "compile") else "off")
    if a.compile != "off" and not hasattr(torch, "compile"):
        sys.exit(f"torch_alexnet.py: --compile needs PyTorch 2, this is {torch.__version__}")
    if a.graph == "on" and not gpu:
        sys.exit("torch_alexnet.py: --graph on needs a GPU")
    return a


def make_step(a):
    """A function that runs one training step and returns the loss tensor."""
    torch.manual_seed(1)
    layout = torch.channels_last if a.layout == "nhwc" else torch.contiguous_format
    net = nets.make(a.net, a.classes).to(a.device).to(memory_format=layout).train()
    size = nets.INPUT[a.net]
    x = torch.randn(a.batch, 3, size, size).to(a.device).to(memory_format=layout)
    y = torch.randint(a.classes, (a.batch,)).to(a.device)
    loss_of = torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **({} if a.device == "cpu" else {a.sgd: True}))
    if a.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif a.device != "cpu" and a.precision == "fp32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    forward = net
    if a.compile != "off":
        mode = a.compile
        if mode == "max-autotune" and a.graph == "on":
            mode = "max-autotune-no-cudagraphs"  # the graph is ours: the whole step
        forward = torch.compile(net, mode=mode)
    kind = "cpu" if a.device == "cpu" else "cuda"

    def step():
        sgd.zero_grad(set_to_none=True)
        # The cache of cast weights must not outlive a step that is replayed.
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=a.precision == "bf16", cache_enabled=a.graph != "on"):
            loss = loss_of(forward(x), y)
        loss.backward()
        sgd.step()
        return loss.detach()

    if a.graph != "on":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles, tunes, and makes the momentum buffers
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    sgd.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = step()

    def replay():
        graph.replay()
        return loss

    return replay


def warmed_up(a):
    """The step, compiled and run often enough to be at its speed."""
    step = make_step(a)
    for _ in range(a.warmup):
        step()
    return step


def measure(a, step):
    """Seconds of each timed step, and the last loss."""
    seconds = []
    if a.device == "cpu":
        for _ in range(a.steps):
            begin = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - begin)
    else:
        # Events between steps, read at the end: no wait between steps, as in training.
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(a.steps + 1)]
        torch.cuda.synchronize()
        marks[0].record()
        for i in range(a.steps):
            loss = step()
            marks[i + 1].record()
        torch.cuda.synchronize()
        seconds = [marks[i].elapsed_time(marks[i + 1]) / 1e3 for i in range(a.steps)]
    return seconds, float(loss)


# Compiling and fusing the update win on some sizes and lose on others; so do layouts on a CPU.
GPU_WAYS = [dict(compile=c, sgd=s, graph="on") for c, s in (("off", "foreach"), ("max-autotune", "foreach"),
            ("max-autotune", "fused"), ("default", "foreach"), ("off", "fused"))]
CPU_WAYS = [dict(compile=c, layout=l) for c in ("off", "default") for l in ("nhwc", "nchw")]


def choose_best(a):
    """Sets a's way to the fastest here; returns its step. Says on standard error what each way took."""
    begin, best = time.monotonic(), None
    for way in CPU_WAYS if a.device == "cpu" else GPU_WAYS:
        text = " ".join(f"{k}={v}" for k, v in way.items())
        if best and time.monotonic() - begin > a.budget:
            print(f"{text}: not tried, {a.budget:g} s are over", file=sys.stderr)
            continue
        if way["compile"] != "off" and not hasattr(torch, "compile"):
            continue
        vars(a).update(way)
        try:
            step = warmed_up(a)
            ms = 1e3 * statistics.median(measure(a, step)[0])
        except Exception as e:  # of whatever kind: another way may do
            print(f"{text}: {type(e).__name__}: {str(e).splitlines()[:1]}", file=sys.stderr)
            continue
        print(f"{text}: {ms:.3f} ms", file=sys.stderr)
        if not best or ms < best[0]:
            best = (ms, way, step)
        del step
    if not best:
        sys.exit("torch_alexnet.py: no way of running this network worked")
    vars(a).update(best[1])
    return best[2]


def main():
    a = arguments()
    # Not PyTorch's own default, which follows OMP_NUM_THREADS.
    torch.set_num_threads(a.threads or len(os.sched_getaffinity(0)))
    step = choose_best(a) if a.best else warmed_up(a)
    seconds = []
    for r in range(1, a.rounds + 1):
        if a.between:
            between = subprocess.run(a.between, shell=True, env=dict(os.environ, ROUND=str(r)), stdout=sys.stderr)
            if between.returncode:
                sys.exit(f"torch_alexnet.py: exit {between.returncode} from: {a.between}")
            step()  # the clocks are where the other left them
        more, loss = measure(a, step)
        seconds += more
    median = statistics.median(seconds)
    where = torch.cuda.get_device_name() if a.device != "cpu" else f"CPU, {torch.get_num_threads()} threads"
    how = f"{a.layout} {a.precision} compile={a.compile} graph={a.graph} sgd={a.sgd}"
    r = {"net": a.net, "batch": a.batch, "images_per_s": a.batch / median, "median_s": median, "min_s": min(seconds),
         "max_s": max(seconds), "steps": len(seconds), "seconds": seconds, "loss": loss, "device": where, "mode": how,
         "flags": f"--layout {a.layout} --precision {a.precision} --compile {a.compile} --graph {a.graph} --sgd {a.sgd}",
         "torch": torch.__version__}
    if a.json:
        print(json.dumps(r))
    else:
        spread = f"median of {len(seconds)} steps, {median:.3f} s; {min(seconds):.3f} to {max(seconds):.3f}"
        print(f"{a.net} batch {a.batch}: {r['images_per_s']:.2f} images/s ({spread}); "
              f"PyTorch {torch.__version__}, {where}, {how}")
    if not loss == loss:
        sys.exit("torch_alexnet.py: the loss is not a number")


if __name__ == "__main__":
    main()
