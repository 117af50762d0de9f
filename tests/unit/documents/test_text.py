import subprocess
import sys
from pathlib import Path

import pytest

from documents.bidi import visual_order
from documents.fonts import face
from documents.shaping import TextLine
from documents.text import Typesetter

ROOT = Path(__file__).parents[3]

line, wrapped = Typesetter().line, Typesetter().wrapped


def told(set_line: TextLine) -> str:
    """What a reader that goes from left to right copies of a line."""
    parts = []
    for run in set_line.runs:
        texts = dict(run.texts)
        for show in run.shows:
            if show.actual_text is not None:
                parts.append(show.actual_text)
                continue
            digits = "".join(part.split(">")[0] for part in show.array.split("<")[1:])
            for start in range(0, len(digits), 4):
                glyph = int(digits[start : start + 4], 16)
                parts.append(face(run.face).text(glyph) or texts[glyph])
    return "".join(parts)


@pytest.mark.parametrize(
    "text", ["Zoë O'Neil", "Ἀριστοτέλης", "Чай чёрный", "Nguyễn Thị", "山田 太郎", "김철수", "ที่นี่", "हिन्दी क्षेत्र", "﷽ً"]
)
@pytest.mark.parametrize("bold", [False, True])
def test_what_is_drawn_is_what_is_copied(text: str, bold: bool) -> None:
    """In each script, also where glyphs join or stand for several characters."""
    assert told(line(text, bold)) == text


@pytest.mark.parametrize("text", ["عبد الرحمن بن محمد", "المقاولات", "שלום עולם", "الله", "بيت (كتاب)"])
def test_text_from_right_to_left_stands_in_the_order_of_the_page(text: str) -> None:
    """The first letter on the right, ligatures letter by letter; readers turn it back."""
    set_line = line(text)
    assert set_line.right_to_left
    assert told(set_line) == text[::-1]


def test_digits_within_arabic_keep_their_order() -> None:
    """A house number is not read backwards."""
    assert told(line("شارع 1234 الرياض")) == "ضايرلا 1234 عراش"


def test_joined_letters_differ_from_letters_alone() -> None:
    """Arabic is shaped: three times the same letter has three forms."""
    (run,) = line("ببب").runs
    assert len(run.glyphs) == 3


def test_levels_are_reversed_from_the_highest_down() -> None:
    """A number in a Hebrew sentence in a Latin one."""
    assert visual_order(["a", "B", "12", "C", "d"], [0, 1, 2, 1, 0]) == ["a", "C", "12", "B", "d"]
    assert visual_order(["B", "12"], [1, 2]) == ["12", "B"]


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog, and again",
        "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 3,
        "有機緑茶ティーバッグ（二十五個入り）「特選」新茶、静岡県産の一番茶のみを使用しております。",
        "عبد الرحمن بن محمد بن عبد العزيز آل سعود القحطاني للتجارة والمقاولات",
        "x" * 5_000,
        "ب" * 300,
        "ص" * 300,
        "กาแฟคั่วบดดอยช้างที่นี่น้ำผึ้งกาแฟคั่วบดดอยช้างที่นี่น้ำผึ้ง",
    ],
)
def test_lines_fit_and_lose_nothing(text: str) -> None:
    """Long words break where they must, and every character is on some line."""
    set_lines = wrapped(text, 9_000)
    assert len(set_lines) > 1
    assert all(set_line.width <= 9_000 for set_line in set_lines)
    assert sorted("".join(map(told, set_lines)).replace(" ", "")) == sorted(text.replace(" ", ""))


def test_a_line_breaks_between_words_where_it_can() -> None:
    """The space at its end takes no room and isn't drawn."""
    assert [told(set_line) for set_line in wrapped("Hello world again", line("Hello world").width)] == [
        "Hello world",
        "again",
    ]


def test_no_closing_mark_begins_a_line_of_japanese() -> None:
    """It goes on to the next line with the character before it."""
    assert [told(set_line) for set_line in wrapped("新茶新茶、新", line("新茶新茶").width)] == ["新茶新", "茶、新"]


@pytest.mark.parametrize("place", range(27))
def test_both_weights_have_the_same_characters(place: int) -> None:
    """What is cleaned for one can be drawn in the other."""
    assert face(2 * place).characters == face(2 * place + 1).characters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("הודעה מ John (Work)", "John (Work) מ העדוה"),
        ("رسالة من John (Work)", "John (Work) نم ةلاسر"),
        ("مرحبا (hello) world وداعا", "اعادو world )hello( ابحرم"),
        ("مرحبا iPhone (15) وداعا", "اعادو iPhone (15) ابحرم"),
        ("Cohen & Sons (כהן) ובניו", "Cohen & Sons (ןהכ) וינבו"),
        ("שולחן [Desk] 120x60", "120x60 ]Desk[ ןחלוש"),
        ("The fox (الثعلب) jumps (יקפוץ) over", "The fox (بلعثلا) jumps (ץופקי) over"),
        ("AC-DC מתאם (12V) 2A", "AC-DC םאתמ (12V) 2A"),
    ],
)
def test_brackets_go_the_way_of_what_they_enclose(text: str, shown: str) -> None:
    """UAX 9, N0. Brackets that run leftwards are mirrored when they are drawn, and copied as they were."""
    assert told(line(text)) == shown


def test_a_line_of_thai_breaks_between_words() -> None:
    """Marked by a zero width space or known to ICU; the space itself is neither drawn nor wide."""
    marked = "นโยบาย\u200bสาธารณะ\u200bมี\u200bความ\u200bสำคัญ"
    width = line("นโยบายสาธารณะมี").width
    broken = [told(each).replace("\u200b", "") for each in wrapped(marked, width)]
    assert broken == ["นโยบายสาธารณะมี", "ความสำคัญ"]
    assert [told(each) for each in wrapped(marked.replace("\u200b", ""), width)] == broken


@pytest.mark.parametrize("text", ["เ" + "แก" * 40, "ເ" + "ແກ" * 40])
def test_a_line_never_ends_after_a_vowel_that_leads_its_consonant(text: str) -> None:
    """Also where no word is known, and the line must break somewhere."""
    for width in range(2_000, 4_000, 100):
        assert not any(told(each)[-1] in "เแโใไເແໂໃໄ" for each in wrapped(text, width))


@pytest.mark.parametrize(
    ("text", "family"),
    [("தமிழ்", 15), ("বই।", 11), ("తెలుగు", 16), ("ਪੰਜਾਬੀ", 12), ("ខ្មែរ", 21), ("ລາວ", 20), ("စာအုပ်", 22), ("አማርኛ፡", 23)],
)
def test_a_script_is_drawn_in_its_own_font(text: str, family: int) -> None:
    """Signs that scripts share, like the danda, stay with it."""
    assert {run.face for run in line(text).runs} == {2 * family}
    assert told(line(text)) == text


def test_ideographs_have_the_forms_of_japan_where_japanese_is_written() -> None:
    """Beside kana, or in a document in Japanese; others have the forms of China."""
    han = line("骨").runs[0].face
    assert line("骨の").runs[0].face != han
    assert Typesetter(japanese=True).line("骨").runs[0].face == line("骨の").runs[0].face
    assert line("𠮷").runs[0].face == line("骨の").runs[0].face


def test_a_picture_of_several_characters_is_one() -> None:
    """Joined by zero width joiners, or asked for by a selector."""
    for text in ("👨\u200d👩\u200d👧", "🏳️\u200d🌈", "1️⃣", "🇫🇷"):
        (run,) = line(text).runs
        assert run.width < 2_000
        assert told(line(text)) == text


def test_a_script_costs_nothing_until_it_is_used() -> None:
    """Each font takes memory in each process that renders."""
    code = (
        "from documents import fonts, render\nfrom tests.invoice_events import issued\n"
        "render.render(issued(), None)\nprint(fonts.face.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(done.stdout) == 2
