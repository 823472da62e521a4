"""Runs PyTorch training steps, or generates, on request, one JSON object a line; `benchmarks/peer.py` has the protocol.

Started as `python torch_worker.py THREADS` by any Python that has torch. Needs nothing else, and nothing of jaxdl.
"""

import copy
import json
import os
import platform
import sys
import time

# Answers have a channel of their own: what a compiler prints goes to standard error.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**message):
    """Sends one line."""
    print(json.dumps(message), file=answers, flush=True)


try:
    import torch  # pyright: ignore[reportMissingImports]  # the peer's interpreter has it; the linter's need not
    import torch_cnn
    import torch_generation
    import torch_gpt
    import torch_mlp
    import torch_rnn
except ImportError as error:
    answer(absent=f"{sys.executable}: {error}")
    sys.exit()

CASES = {
    "mlp": torch_mlp.mlp,
    "lenet": torch_cnn.lenet,
    "lenet_relu_max": torch_cnn.lenet_relu_max,
    "vgg": torch_cnn.vgg,
    "nin": torch_cnn.nin,
    "googlenet": torch_cnn.googlenet,
    "resnet18": torch_cnn.resnet18,
    "densenet": torch_cnn.densenet,
    "rnn_small": torch_rnn.rnn_small,
    "gru_small": torch_rnn.gru_small,
    "lstm_small": torch_rnn.lstm_small,
    "lstm": torch_rnn.lstm,
    "rnn_large": torch_rnn.rnn_large,
    "gru_large": torch_rnn.gru_large,
    "lstm_large": torch_rnn.lstm_large,
    "transformer": torch_gpt.transformer,
}


class Variant:
    """One way to run a case's training step: its memory layout, and compiled or not."""

    def __init__(self, build, batch_size, num_batches, *, channels_last, compiled):
        torch.manual_seed(0)
        self.model, self.optimizer, loss, self.batches = build(batch_size, num_batches)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
            self.batches = [tuple(map(to_channels_last, batch)) for batch in self.batches]
        self.initial = copy.deepcopy(self.model.state_dict())

        def batch_loss(*batch):
            return loss(self.model, *batch)

        self.batch_loss = torch.compile(batch_loss) if compiled else batch_loss
        self.one_pass()  # compiles

    def one_pass(self):
        """A training step on each batch."""
        for batch in self.batches:
            self.optimizer.zero_grad()
            self.batch_loss(*batch).backward()
            self.optimizer.step()

    def run(self, passes):
        """Milliseconds a step, from the initial parameters (those of plain SGD are all its state)."""
        self.model.load_state_dict(self.initial)
        self.one_pass()
        start = time.perf_counter()
        for _ in range(passes):
            self.one_pass()
        return (time.perf_counter() - start) * 1e3 / (passes * len(self.batches))


def to_channels_last(x):
    """Images laid out with the channels last; other tensors as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def prepare(build, batch_size, num_batches):
    """Builds every variant that works: a model without convolutions has no layouts, a compiler may be missing."""
    model = build(1, 1)[0]
    layouts = {"": False, "channels_last": True} if any(p.dim() == 4 for p in model.parameters()) else {"": False}
    variants, failures = {}, {}
    for layout, channels_last in layouts.items():
        variants[layout or "eager"] = Variant(
            build, batch_size, num_batches, channels_last=channels_last, compiled=False
        )
        name = "_".join(filter(None, ("compile", layout)))
        try:
            variants[name] = Variant(build, batch_size, num_batches, channels_last=channels_last, compiled=True)
        except Exception as error:  # whatever a compiler can fail with is said, and the others go on
            failures[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return variants, failures, sum(p.numel() for p in model.parameters())


def main(threads):
    """Answers requests until there are no more."""
    torch.set_num_threads(threads)
    answer(versions={"python": platform.python_version(), "torch": torch.__version__})
    variants = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "run":
            answer(ms=variants[request["variant"]].run(request["passes"]))
        elif request["case"] in torch_generation.CASES:  # their batches are tokens
            sizes = request["batch_size"], request["num_batches"]
            variants, failures, num_parameters = torch_generation.prepare(request["case"], *sizes)
            answer(variants=list(variants), failures=failures, num_parameters=num_parameters)
        elif request["case"] not in CASES:
            answer(absent=f"no case {request['case']!r} in peers/torch_worker.py")
        else:
            build = CASES[request["case"]]
            variants, failures, num_parameters = prepare(build, request["batch_size"], request["num_batches"])
            answer(variants=list(variants), failures=failures, num_parameters=num_parameters)


if __name__ == "__main__":
    main(int(sys.argv[1]))
