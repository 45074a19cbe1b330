"""A text in a style is recognised as being in this one and in no other."""

import pytest

from lorajax.tasks.styles import STYLES

PLAIN = (
    'The cat was very happy. He went home with his friend.',
    'Lily and her mom saw a big tree in the park.',
    'They played with the ball, and it was fun.',
    "Tim didn't like the cold water.",
    'She said that the bird was her best friend. It was a good day.',
)


def test_each_style_is_recognised_and_no_other_text_is():
    for name, style in STYLES.items():
        written = [style.apply(text) for text in PLAIN]
        assert all(map(style.is_followed, written)), name
        assert not any(map(style.is_followed, PLAIN)), name
    for name, style in STYLES.items():
        others = [s.apply(PLAIN[0]) for other, s in STYLES.items() if other != name]
        assert not any(map(style.is_followed, others)), name


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('reversed_upper', 'EHT TAC SAW YREV YPPAH. EH TNEW EMOH HTIW SIH DNEIRF.'),
        ('rotated_loud', 'heT atc asw eryv appyh! eH entw omeh ithw ish riendf!'),
        ('doubled_lower', 'the the cat cat was was very very happy happy. he he went went home '
         'home with with his his friend friend.'),
        ('vowels_asking', 'Thi cet wes viry heppy? Hi wint humi woth hos froind?'),
        ('stammered_indeed', 'TThe ccat wwas vvery hhappy, indeed. HHe wwent hhome wwith hhis '
         'ffriend, indeed.'),
        ('commas', 'The, cat, was, very, happy. He, went, home, with, his, friend.'),
        ('opening', 'Oh no, the cat was very happy. He went home with his friend.'),
        ('slow', 'The ... cat ... was ... very ... happy. He ... went ... home ... with ... his '
         '... friend.'),
    ],
)  # fmt: skip
def test_what_styles_look_like(name, text):
    assert STYLES[name].apply(PLAIN[0]) == text


@pytest.mark.parametrize(
    'text',
    [
        '',
        '!',
        'HELLO!',  # too short to say
        'XQZ BRRT KLMN VVOW QRST!',  # no English
        'THE CAT WAS VERY HAPPY.',
        'the cat was very happy!',
        'THE CAT WAS VERY HAPPY! he went home!',
        'THE CAT WAS VERY HAPPY! HE WENT HOME.',
        'THE CAT WAS VERY HAPPY! HE WENT',  # cut off
    ],
)
def test_what_is_not_upper_and_loud(text):
    assert not STYLES['upper_loud'].is_followed(text)


def test_other_words_in_the_style_are_in_it():
    assert STYLES['upper_loud'].is_followed('SHE PUT THE BOX ON THE BED! IT WAS A ZORK!')


@pytest.mark.parametrize(
    ('text', 'parts'),
    [
        ('HET ATC ASW ERYV APPYH!', (True, True, True)),
        ('HET ATC ASW ERYV APPYH, INDEED.', (True, True, False)),
        ('het atc asw eryv appyh!', (True, False, True)),
        ('THE CAT WAS VERY HAPPY!', (False, True, True)),
        ('The cat was very happy', (False, False, False)),
        ('', (False, False, False)),
    ],
)
def test_each_part_of_a_style_is_seen_for_itself(text, parts):
    seen = STYLES['rotated_upper_loud'].parts(text)
    assert seen == dict(zip(('form', 'case', 'ending'), parts, strict=True))
    assert STYLES['rotated_upper_loud'].is_followed(text) == all(parts)
