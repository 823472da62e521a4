"""The chapter's table (CHECKLIST 2.2) by pandas and by the table encoder."""

import ch02_preprocessing as ch02
import pytest


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_books_table(tmp_path, capsys):
    means = ch02.main(ch02.Config())
    assert means == {"NumRooms": 3, "RoofType_Slate": 0.25, "RoofType_nan": 0.75}
    (file,) = tmp_path.glob("runs/*/house_tiny.csv")
    assert file.read_text().splitlines()[3] == "4,Slate,178100"
    assert "TableEncoder gives the same 3 features: NumRooms, RoofType_Slate, RoofType_nan" in capsys.readouterr().out


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("area,street,cost\n10,paved,1\n,gravel,2\n30,paved,3\n")
    means = ch02.main(ch02.Config(csv=path, target="cost"))
    expected = {"area": 20, "street_gravel": 1 / 3, "street_paved": 2 / 3, "street_nan": 0}
    assert means == pytest.approx(expected, rel=1e-6)


def test_a_missing_target_or_file_is_an_error(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("area,cost\n10,1\n")
    with pytest.raises(SystemExit, match="no column 'Price'; choose one with --target"):
        ch02.main(ch02.Config(csv=path))
    with pytest.raises(FileNotFoundError):
        ch02.main(ch02.Config(csv=tmp_path / "none.csv"))
