"""TensorBoard scalars (early stopping is tested with `fit`)."""

import sys

import optax
import pytest
from problems import make_state

from jaxdl.training import History, TensorBoard


def test_scalars_are_written_as_they_come(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    writer = TensorBoard(tmp_path / "log")
    history = History()
    for step, loss in ((10, 0.5), (20, 0.25)):
        history.append({"epoch": step / 10, "step": step, "train_loss": loss})
        assert not writer(make_state(optax.sgd(0.1)), history)
    writer.close()
    (file,) = (tmp_path / "log").iterdir()
    scalars, data = {}, file.read_bytes()
    while data:  # a record: length (8 bytes), its CRC (4), the event, its CRC (4)
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        for value in event.summary.value:
            scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert scalars == {"epoch": [(10, 1.0), (20, 2.0)], "train/loss": [(10, 0.5), (20, 0.25)]}


def test_without_tensorboardx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[examples\]'"):
        TensorBoard("log")
