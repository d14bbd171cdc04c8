import pytest

from alhelpers.reading import chunks, made_by, pages


class Listing:
    """Pages of a listing, as the SDK gives them: the first one is there already."""

    def __init__(self, contents, refused=False):
        self.contents, self.page, self.asked, self.refused = contents, 0, 0, refused

    @property
    def items(self):
        return self.contents[self.page] if self.contents else []

    @property
    def has_next_page(self):
        return self.page + 1 < len(self.contents)

    def next_page(self):
        self.page += 1
        self.asked += 1

    def return_page(self):
        self.asked += 1
        if self.refused:
            raise ValueError("refused")
        return []


@pytest.mark.parametrize("contents", [[[1, 2]], [[1, 2], [3, 4], [5]], [[1]]])
def test_every_page_is_asked_for_once(contents):
    listing = Listing(contents)
    assert list(pages(listing)) == [value for page in contents for value in page]
    assert listing.asked == len(contents) - 1


def test_an_empty_listing_is_asked_for_again_to_tell_it_from_a_refused_one():
    assert list(pages(Listing([]))) == []
    with pytest.raises(ValueError, match="refused"):
        list(pages(Listing([], refused=True)))


def test_a_list_that_shrinks_meanwhile_ends():
    assert list(pages(Listing([[1], [], [], []]))) == [1]


@pytest.mark.parametrize(("count", "size", "lengths"), [(0, 3, []), (3, 3, [3]), (7, 3, [3, 3, 1])])
def test_chunks_hold_everything_once(count, size, lengths):
    cut = chunks(range(count), size)
    assert [len(chunk) for chunk in cut] == lengths
    assert [value for chunk in cut for value in chunk] == list(range(count))


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ({"user": None, "system": {}}, (None, None)),
        ({"system": {"model": None}}, (None, None)),
        ({"user": {"model": {}}}, (None, None)),
        ({"user": {"model": {"name": "m", "model_id": "1"}}}, ("1", "m")),
        ({"system": {"model": {"name": "m"}}}, (None, "m")),
        ({"system": {}, "user": {"model": {"model_id": "2"}}}, ("2", None)),
        ({"system": {"model": {"model_id": "2"}}, "user": {"model": {"model_id": "1"}}}, ("2", None)),
    ],
)
def test_who_made_an_annotation(metadata, owner):
    assert made_by(metadata) == owner
