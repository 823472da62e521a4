"""How a graph of computation is written in DOT and drawn with matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np

COLUMN = 1.6  # inches between columns


def short(value: Any) -> str:
    """A number, or two, in four digits; of more numbers the dtype and shape."""
    array = np.asarray(value)
    if array.ndim > 1 or array.size > 2 or array.dtype.kind not in "biuf":
        return f"{array.dtype}{list(array.shape)}"
    numbers = [f"{x:.4g}" for x in array.ravel().tolist()]
    return numbers[0] if array.ndim == 0 else f"[{', '.join(numbers)}]"


def to_dot(nodes: Sequence[Any], outputs: Sequence[str]) -> str:
    """The graph in DOT."""
    lines = ["digraph {", "  rankdir=LR;", "  node [shape=circle];"]
    for node in nodes:
        facts = [f"{node.name} = {short(node.value)}"]
        facts += [f"tangent {short(node.tangent)}"] * (node.tangent is not None)
        facts += [f"adjoint {short(node.adjoint)}"] * (node.adjoint is not None)
        text = "\\n".join(_quoted(line) for line in (node.operation, *facts))
        style = ", shape=doublecircle" if node.name in outputs else ""
        lines.append(f'  {node.name} [label="{text}"{style}];')
    lines += [f"  {parent} -> {node.name};" for node in nodes for parent in node.parents]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def places(nodes: Sequence[Any]) -> dict[str, tuple[float, float]]:
    """Where each node goes: one column past its last operand, at a height near the mean of its operands'."""
    column: dict[str, int] = {}
    for node in nodes:
        column[node.name] = 1 + max((column[parent] for parent in node.parents), default=-1)
    height: dict[str, float] = {}
    for i in range(1 + max(column.values(), default=0)):
        here = [node for node in nodes if column[node.name] == i]
        wanted = {node.name: float(np.mean([height[parent] for parent in node.parents] or [0])) for node in here}
        here.sort(key=lambda node: -wanted[node.name])  # stable: from above in the order of computation
        spots: list[float] = []
        for node in here:
            spots.append(min(wanted[node.name], spots[-1] - 1) if spots else wanted[node.name])
        shift = float(np.mean(list(wanted.values())) - np.mean(spots))
        height |= {node.name: spot + shift for node, spot in zip(here, spots, strict=True)}
    return {node.name: (COLUMN * column[node.name], height[node.name]) for node in nodes}


def _curve(start: tuple[float, float], end: tuple[float, float], bend: float) -> np.ndarray:
    """Points `[points, 2]` of an edge that is bent to the left of its way, as matplotlib's `arc3` does."""
    p, q, t = np.array(start), np.array(end), np.linspace(0, 1, 30)[:, None]
    control = (p + q) / 2 + bend * np.array([p[1] - q[1], q[0] - p[0]])
    return (1 - t) ** 2 * p + 2 * t * (1 - t) * control + t**2 * q


def _bend(start: tuple[float, float], end: tuple[float, float], places: Sequence[tuple[float, float]]) -> float:
    """How much to bend an edge: as little as it takes to pass by the nodes between."""
    others = np.array([place for place in places if start[0] < place[0] < end[0]]).reshape(-1, 1, 2)
    bends = (0.0, 0.3, -0.3)
    gaps = [np.linalg.norm(_curve(start, end, bend) - others, axis=-1).min(initial=1) for bend in bends]
    return next((bend for bend, gap in zip(bends, gaps, strict=True) if gap > 0.4), bends[int(np.argmax(gaps))])


def draw(nodes: Sequence[Any], outputs: Sequence[str], path: Any = None, title: str = "", axes: Any = None) -> Any:
    """The picture; see `ComputationGraph.draw`."""
    place = places(nodes)
    xs, ys = ([point[i] for point in place.values()] or [0.0] for i in (0, 1))
    edges = [(parent, node.name) for node in nodes for parent in node.parents]
    bends = [_bend(place[parent], place[child], list(place.values())) for parent, child in edges]
    heights = [
        *ys,
        *(y for (p, q), bend in zip(edges, bends, strict=True) for _, y in _curve(place[p], place[q], bend)),
    ]
    top, bottom = max(heights) + 0.4, min(min(ys) - 1, min(heights) - 0.1)
    if axes is None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("drawing a graph needs matplotlib: pip install -e '.[examples]'") from error
        size = max(xs) - min(xs) + COLUMN, 1.2 * (top - bottom)
        axes = Figure(figsize=size, layout="constrained").subplots()
    reach = {node.name: max(15, 2.3 * len(node.operation) + 7) for node in nodes}  # points from the middle to the rim
    for (parent, child), bend in zip(edges, bends, strict=True):
        arrow = {"arrowstyle": "-|>", "color": "0.5", "shrinkA": reach[parent], "shrinkB": reach[child]}
        arrow["connectionstyle"] = f"arc3,rad={-bend}"
        axes.annotate("", xy=place[child], xytext=place[parent], arrowprops=arrow)
    for node in nodes:
        _draw_node(axes, node, place[node.name], node.name in outputs)
    axes.set_xlim(min(xs) - COLUMN / 2, max(xs) + COLUMN / 2)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()
    axes.set_title(title)
    if path is not None:
        axes.figure.savefig(path, dpi=120)
    return axes.figure


def _draw_node(axes: Any, node: Any, place: tuple[float, float], is_output: bool) -> None:
    """A circle, or a box for a longer name; what is known of the node stands below."""
    face, width = "white" if node.parents else "0.92", 2 if is_output else 1
    box = None
    if len(node.operation) > 4:
        box = {"boxstyle": "round,pad=0.5,rounding_size=1", "facecolor": face, "edgecolor": "black", "linewidth": width}
    else:
        axes.scatter(*place, s=700, facecolor=face, edgecolor="black", linewidth=width, zorder=2)
    axes.text(*place, node.operation, ha="center", va="center", fontsize=8 if box else 11, bbox=box, zorder=3)
    name = f"{node.name[0]}}}_{{{node.name[1:]}}}"
    known = [(f"$\\mathit{{{name}$ = ", node.value, "black"), (f"$\\dot{{{name}$ = ", node.tangent, "tab:blue")]
    known.append((f"$\\bar{{{name}$ = ", node.adjoint, "tab:red"))
    lines = [(symbol + short(number), color) for symbol, number, color in known if number is not None]
    for i, (text, color) in enumerate(lines):
        below = {"xytext": (0, -17 - 12 * i), "textcoords": "offset points", "ha": "center", "va": "top"}
        axes.annotate(text, place, color=color, fontsize=8, **below)
