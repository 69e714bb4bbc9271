from pathlib import Path

import ismrmrd
import pytest

from tests.raw_files import header
from unrolled.data.ismrmrd_header import Encoding, Space, read_header

PATH = Path("raw.h5")


def test_a_header_is_read_as_its_package_reads_it():
    text = header()
    found = read_header(text, PATH)
    encoding = ismrmrd.xsd.CreateFromDocument(text).encoding[0]
    for mine, theirs in ((found.encoded, encoding.encodedSpace), (found.image, encoding.reconSpace)):
        assert mine.matrix == tuple(getattr(theirs.matrixSize, axis) for axis in "xyz")
        assert mine.field == tuple(getattr(theirs.fieldOfView_mm, axis) for axis in "xyz")
    assert found.middles == (encoding.encodingLimits.kspace_encoding_step_1.center, None) == (6, None)
    assert found.trajectory == encoding.trajectory.value
    assert found.calibration == encoding.parallelImaging.calibrationMode.value


def test_the_image_is_the_part_of_the_field_of_view():
    whole = Space((640, 368, 40), (400.0, 230.0, 100.0))
    # An image of a finer grid is no larger than its part; without lengths its matrix counts.
    assert Encoding(whole, Space((512, 512, 64), (200.0, 200.0, 80.0))).sides == (320, 320, 32)
    assert Encoding(whole, Space((320, 400, 36), (0.0, 0.0, 0.0))).sides == (320, 368, 36)
    assert Encoding(whole, Space((320, 320, 1), (1e308, 0.1, 5.0))).sides == (640, 1, 2)
    assert read_header(header(field=("", "")), PATH).sides == (10, 10, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its header is no XML"),
        ("<a>" * 10**5, "its header is no XML"),
        (header().encode("utf-16").decode("utf-8", "replace"), "its header is no XML"),
        ("<a></a>", "has no <encoding>"),
        ("<a><encoding/></a>", "a whole number in 1 … 65536 for encodedSpace/matrixSize/x, has ''"),
        (header(encoded=(0, 12)), "for encodedSpace/matrixSize/x, has '0'"),
        (header(encoded=(10**9, 12)), "for encodedSpace/matrixSize/x, has '1000000000'"),
        (header(encoded=("²", 12)), "for encodedSpace/matrixSize/x, has '²'"),
        (header(center=-1), "whole number in 0 … 65536 for encodingLimits/kspace_encoding_step_1/center"),
        (header(field=("nan", 1)), "a length in mm for encodedSpace/fieldOfView_mm/x, has 'nan'"),
        (header(field=("a", 1)), "a length in mm"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + header().partition("?>")[2], "defines entities"),
    ],
)
def test_headers_that_cannot_be_are_refused(text, message):
    with pytest.raises(ValueError, match=f"raw.h5: its header .*{message}|raw.h5: {message}"):
        read_header(text, PATH)
