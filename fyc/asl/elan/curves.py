"""Makes ELAN show the columns of a CSV file as curves below the video.

ELAN's time series viewer reads `NAME_tsconf.xml`, which says what the columns of a linked table are, and the
preferences `NAME.pfsx`, which say what panel shows which curve; both stand beside `NAME.eaf`, and the document links
the table and the former. What ELAN expects of the table, judged by its source (class CSVReader): commas between cells,
a first line of names, times in seconds with a decimal point. A cell that is empty is a gap, but empty cells at the end
of a line are taken for zero: the last column of the table must never be empty.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from fyc.asl.elan.document import LinkedFile
from fyc.asl.elan.write import file_url, to_bytes
from fyc.asl.files import write_whole

_PROVIDER = "mpi.eudico.client.annotator.timeseries.csv.CSVServiceProvider"


@dataclass(frozen=True)
class Curve:
    """A column that is shown.

    Attributes:
        name: unique; the label of the curve.
        column: index of the column, from 0.
        units: such as `deg`.
        lowest: value at the bottom of the panel.
        highest: value at its top.
        colour: red, green and blue, 0 to 255.
        panel: number of the panel, from 1; curves of one panel share its scale.
    """

    name: str
    column: int
    units: str
    lowest: float
    highest: float
    colour: tuple[int, int, int]
    panel: int = 1


def write_curves(
    eaf: str | Path, table: str | Path, time_column: int, curves: Sequence[Curve]
) -> tuple[LinkedFile, ...]:
    """Write `NAME_tsconf.xml` and `NAME.pfsx` for `NAME.eaf`.

    Args:
        eaf: the document, which need not be there yet.
        table: the CSV file.
        time_column: index of the column with the time in seconds.
        curves: what to show.

    Returns:
        What belongs into `Document.linked`: the table and its description.

    Raises:
        ElanError: FYC-E05 if they cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    document, data = Path(eaf), Path(table)
    description = document.with_name(f"{document.stem}_tsconf.xml")
    write_whole(description, to_bytes(_description(data, time_column, curves)))
    write_whole(document.with_suffix(".pfsx"), to_bytes(_preferences(curves)))
    return LinkedFile(data), LinkedFile(description)


def _description(table: Path, time_column: int, curves: Sequence[Curve]) -> Element:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    root = Element("timeseries", {"date": now, "version": "1.0"})
    # ELAN matches source-url with the document's LINK_URL letter by letter.
    source = SubElement(root, "tracksource", {
        "sample-type": "Discontinuous Rate", "source-url": file_url(table), "time-column": str(time_column),
    })  # fmt: skip
    SubElement(source, "property", {"key": "provider", "value": _PROVIDER})
    for curve in curves:
        track = SubElement(source, "track", {"derivative": "0", "name": curve.name})
        SubElement(track, "property", {"key": "detect-range", "value": "false"})
        position = SubElement(track, "sample-position")
        SubElement(position, "pos", {"col": str(curve.column), "row": "0"})
        SubElement(track, "description")
        SubElement(track, "units").text = curve.units
        SubElement(track, "range", {"max": str(float(curve.highest)), "min": str(float(curve.lowest))})
        SubElement(track, "color").text = ",".join(map(str, curve.colour))
    return root


def _preferences(curves: Sequence[Curve]) -> Element:
    root = Element("preferences", {
        "version": "1.1", "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/Prefs_v1.1.xsd",
    })  # fmt: skip
    panels = max((curve.panel for curve in curves), default=1)
    number = SubElement(root, "pref", {"key": "TimeSeriesViewer.NumberOfPanels"})
    SubElement(number, "Int").text = str(panels)
    for panel in range(1, panels + 1):
        names = SubElement(root, "prefList", {"key": f"TimeSeriesViewer.Panel-{panel}"})
        for curve in curves:
            if curve.panel == panel:
                SubElement(names, "String").text = curve.name
    return root
