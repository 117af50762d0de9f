import pytest

from documents.clean import MARKS_MAX, lines, one_line


@pytest.mark.parametrize(
    "text",
    [
        "Zoë O'Neil",
        "Ελλάδα",
        "Чай",
        "Nguyễn",
        "عبد الرحمن",
        "שלום",
        "山田太郎",
        "김철수",
        "ที่นี่",
        "हिन्दी",
        "✓ ★ ≤",
        "தமிழ்",
        "😀",
        "မြန်မာ",
        "",
    ],
)
def test_honest_text_stays_as_it_is(text: str) -> None:
    """Every script that our fonts have."""
    assert one_line(text) == text


@pytest.mark.parametrize("text", ["தமிழ்", "বই।", "မြန်မာ", "ខ្មែរ", "አማርኛ", "😀", "❤\ufe0f", "a\u200bb"])
def test_what_fonts_and_lines_need_stays_as_it_is(text: str) -> None:
    """Scripts, pictures, and the places where a line may break."""
    assert one_line(text) == text


@pytest.mark.parametrize(
    "character", ["\0", "\x1b", "\x7f", "\u202e", "\u202d", "\u2066", "\u2069", "\ue000", "\U00012000", "\ud800"]
)
def test_what_has_no_picture_is_shown_as_its_code(character: str) -> None:
    """Controls and overrides among them: visible, and without effect."""
    assert one_line(f"a{character}b") == f"a[U+{ord(character):04X}]b"


def test_an_override_does_not_turn_an_amount_around() -> None:
    """The digits after it stay in their order."""
    assert one_line("pay \u202e00.1\u202c") == "pay [U+202E]00.1[U+202C]"


def test_marks_do_not_pile_up_over_the_line_above() -> None:
    """A few are drawn, the others shown as codes."""
    cleaned = one_line("a" + "\u0316" * 50)
    assert cleaned.count("\u0316") == MARKS_MAX
    assert cleaned.count("[U+0316]") == 50 - MARKS_MAX


def test_blank_letters_cannot_make_a_nameless_customer() -> None:
    """A Hangul filler is a letter that looks like nothing."""
    assert one_line("\u3164") == "[U+3164]"


def test_characters_without_a_picture_by_nature_are_left_out() -> None:
    """A soft hyphen or a byte order mark pasted along prints as nothing everywhere."""
    assert one_line("a\u00adb\ufeffc\u2060d\ufe0e") == "abcd"


def test_letters_and_their_accents_are_composed() -> None:
    """As some keyboards and file systems send them apart."""
    assert one_line("Zoe\u0308") == "Zoë"
    assert one_line("\u1100\u1161") == "가"


def test_a_name_keeps_the_form_of_its_ideographs() -> None:
    """Normalisation would write another character than its owner does."""
    assert one_line("\ufa10e\u0301") == "\ufa10é"


def test_line_ends_become_spaces_or_lines() -> None:
    """By what the place has room for."""
    assert one_line("a\r\nb\tc\u2028d") == "a b c d"
    assert lines("\n a\r\n\nb \n\n") == ["a", "", "b"]
    assert lines("") == []
