"""Both modes of the script reach the worked example's numbers (CHECKLIST 23.1), and so does the library."""

import ch23_autodiff_from_scratch as script
import numpy as np
import pytest

from jaxdl.autodiff import ComputationGraph


def test_forward_and_reverse_mode_on_the_graph(x64):
    graph = ComputationGraph.of(script.example, 2.0, 5.0)
    tangent = script.forward_mode(graph, {"v1": 1.0, "v2": 0.0})
    assert [tangent[f"v{i}"] for i in range(3, 8)] == [0.5, 5, 0, 5.5, 5.5]
    adjoint = script.reverse_mode(graph)
    assert adjoint["v1"] == 5.5
    assert adjoint["v2"] == pytest.approx(2 - np.cos(5), rel=1e-15)
    assert script.forward_mode(graph, {"v1": 0.0, "v2": 1.0})["v7"] == pytest.approx(adjoint["v2"], rel=1e-15)


def test_the_script(tmp_path, capsys):
    config = script.Config(largest_n=16, plot=tmp_path / "picture.png")
    row = script.main(config)
    assert row["forward_by_x1"] == row["by_x1"] == 5.5
    assert row["by_x2"] == pytest.approx(1.716338, abs=1e-6)
    assert row["library_by_x2"] == pytest.approx(row["by_x2"], rel=1e-6)
    assert row["second_by_x1"] == -0.25
    assert row["largest_reverse_cost"] < 5
    assert row["largest_forward_cost"] > 10
    assert row["largest_check_error"] < 1e-8
    assert config.plot.stat().st_size > 50_000
    assert "v6" in capsys.readouterr().out


def test_the_error_of_central_differences_is_quadratic():
    errors = script.difference_errors(np.array([1e-2, 5e-3]))
    assert errors[0] / errors[1] == pytest.approx(4, rel=1e-3)
