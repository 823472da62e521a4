"""The chapter's numbers (CHECKLIST 2.3): the script compares all of them."""

import ch02_linear_algebra


def test_the_script(tmp_path, capsys):
    config = ch02_linear_algebra.Config(plot=tmp_path / "new" / "picture.png")
    numbers = ch02_linear_algebra.main(config)
    assert numbers["norm(u)"] == 5
    assert numbers["norm(u, 1)"] == 7
    assert numbers["norm(ones((4, 9)), 'fro')"] == 6
    assert numbers["A.sum()"] == 15
    assert numbers["A.mean()"] == 2.5
    assert numbers["x @ ones(3)"] == 3
    printed = capsys.readouterr().out
    for line in (
        "A.sum(axis=0)                           [3., 5., 7.]",
        "A.sum(axis=1)                           [ 3., 12.]",
        "A.cumsum(axis=0)                        [[0., 1., 2.], [3., 5., 7.]]",
        "A @ x                                   [ 5., 14.]",
    ):
        assert line in printed
    assert config.plot.stat().st_size > 10_000
