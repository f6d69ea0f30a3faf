"""The tutorial for notebooks runs as the notebook that the site offers for download."""

import shutil

import nbformat
from nbclient import NotebookClient
from sphinx_gallery.notebook import python_to_jupyter_cli

from tests.test_pages import DOCS


def outputs(cell, kind: str) -> str:
    """What a cell shows in a form such as text/html."""
    shown = [one.data[kind] for one in cell.outputs if kind in one.get("data", {})]
    return "".join(shown)


def test_the_notebook_goes_from_arrays_to_a_map_and_shows_its_results(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    name = "5_arrays_in_a_notebook"
    shutil.copy(DOCS / "tutorials" / f"{name}.py", tmp_path)
    python_to_jupyter_cli([str(tmp_path / f"{name}.py")])
    notebook = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    cells = {
        cell.source.splitlines()[-1]: cell for cell in notebook.cells if cell.cell_type == "code"
    }
    assert "xarray.DataArray" in outputs(cells["array"], "text/html")
    assert "Scene(" in outputs(cells["scene"], "text/plain")
    assert "geometry" in outputs(cells["labels.head()"], "text/html")
    comparison = outputs(cells["comparison"], "text/html")
    assert "recommended: " in comparison
    assert comparison.count("<tr") == 3  # the names of the columns, and two models
    made = outputs(cells["made"], "text/html")
    assert "data:image/png;base64," in made
    assert "hectares" in made
    assert "xarray.DataArray" in outputs(cells["classes"], "text/html")
    pictures = [
        cell for cell in notebook.cells if cell.get("outputs") and outputs(cell, "image/png")
    ]
    assert len(pictures) == 2
    said = "".join(
        one.text for cell in cells.values() for one in cell.outputs if one.output_type == "stream"
    )
    assert "--" not in said
