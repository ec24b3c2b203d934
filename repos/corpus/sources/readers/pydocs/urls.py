"""The addresses of objects' pages on the sites of their projects, for projects whose pattern is known.

A project publishes one page per object under a dotted name; which of the object's names that is differs by project.
"""

from collections.abc import Sequence

_PAGES = {
    "numpy": "https://numpy.org/doc/stable/reference/generated/{name}.html",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{name}.html",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{name}.html",
    "xarray": "https://docs.xarray.dev/en/stable/generated/{name}.html",
    "statsmodels": "https://www.statsmodels.org/stable/generated/{name}.html",
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
}
_NETWORKX = {
    "networkx.algorithms": "algorithms/generated",
    "networkx.generators": "generated",
    "networkx.readwrite": "readwrite/generated",
    "networkx.drawing": "generated",
    "networkx.linalg": "generated",
    "networkx.convert": "generated",
    "networkx.convert_matrix": "generated",
    "networkx.relabel": "generated",
    "networkx.classes.function": "generated",
}


def documentation_url(package: str, kind: str, name: str, names: Sequence[str], module: str) -> str | None:
    """The address of an object's page, None where its names do not tell one.

    Args:
        package: the package that the object belongs to, as it is imported.
        kind: module, class, function, method, attribute or object.
        name: the best known of its names.
        names: all of its names.
        module: the module that defines it.
    """
    if kind == "module":
        return None
    if package == "skimage":
        return _skimage(kind, name)
    if package == "networkx":
        return _networkx(kind, name, module)
    if package not in _PAGES:
        return None
    if package == "statsmodels":  # its pages bear the name of the module that defines the object
        name = next((other for other in names if other.startswith(f"{module}.")), name)
    page, anchor = name, ""
    if package == "sklearn" and kind in ("method", "attribute"):  # methods stand on their class's page
        page, anchor = name.rpartition(".")[0], f"#{name}"
    return _PAGES[package].format(name=page) + anchor


def _skimage(kind: str, name: str) -> str | None:
    parts = name.split(".")
    page = ".".join(parts[:2])
    return f"https://scikit-image.org/docs/stable/api/{page}.html#{name}" if len(parts) > 2 else None


def _networkx(kind: str, name: str, module: str) -> str | None:
    base = "https://networkx.org/documentation/stable/reference"
    if kind in ("method", "class"):
        parts = name.split(".")
        return f"{base}/classes/generated/{name}.html" if kind == "method" and "Graph" in parts[1] else None
    folder = next((folder for prefix, folder in _NETWORKX.items() if f"{module}.".startswith(f"{prefix}.")), None)
    return f"{base}/{folder}/{module}.{name.rpartition('.')[2]}.html" if folder else None
