"""Rows of our own making in the fields of the data sets that a text world reads."""

from lorajax.text.items import QUESTIONS

_QUESTIONS = {
    'story': 'Tom has {n} apples in his bag. How many apples will he have when he eats them?',
    'exam': 'Which of these {n} laws was made for the courts? A short one.',
    'science': 'The water in {n} lamps is warm on a hot day, they are on.',
    'code': 'Write a function that can find the {n} numbers from a list.',
}


class Rows:
    """A row source with forty rows a split."""

    def rows(self, dataset, split):
        """Returns the rows of one split."""
        if dataset == 'mawps':
            return [{'original_text': f'Ann has {n} eggs .'} for n in range(40)]
        field, source = next((f, s) for d, p, f, s in QUESTIONS if (d, p) == (dataset, split))
        rows = [{field: _QUESTIONS[source].format(n=n)} for n in range(40)]
        if source == 'exam':
            rows = [row | {'subject': f'{s}_law', 'choices': ['yes', 'no']}
                    for row, s in zip(rows, ['old', 'new'] * 20, strict=True)]  # fmt: skip
        return rows
