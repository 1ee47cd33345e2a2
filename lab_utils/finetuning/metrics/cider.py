"""CIDEr as an `evaluate` metric that needs no download: the formula is short, so it stands here."""

import math
from collections import Counter

import datasets
import evaluate

from lab_utils.finetuning.metrics import plain_words

ORDERS, SIGMA = (1, 2, 3, 4), 6.0


def ngrams(words: list[str], n: int) -> Counter:
    """How often each run of n words occurs."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def cider_d(answers: list[list[str]], references: list[list[str]]) -> list[float]:
    """CIDEr-D of each answer against its one reference, both as words, between 0 and 10.

    The cosine of tf-idf vectors of n-grams, averaged over n = 1 to 4. An n-gram of the answer
    counts at most as often as in the reference, answers of another length lose by a Gaussian (sigma
    6 words), and the whole is times 10. An n-gram's idf is log(references / references that have
    it), over the references given: with a single one all are 0.
    """
    seen = Counter(gram for words in references for n in ORDERS for gram in ngrams(words, n).keys())

    def weights(words: list[str], n: int) -> dict:
        return {
            gram: count * (math.log(len(references)) - math.log(max(seen[gram], 1)))
            for gram, count in ngrams(words, n).items()
        }

    def similarity(answer: list[str], reference: list[str], n: int) -> float:
        a, b = weights(answer, n), weights(reference, n)
        norm = math.hypot(*a.values()) * math.hypot(*b.values())
        return (
            sum(min(a[gram], b[gram]) * b[gram] for gram in a.keys() & b.keys()) / norm
            if norm
            else 0.0
        )

    scores = []
    for answer, reference in zip(answers, references, strict=True):
        length = math.exp(-((len(answer) - len(reference)) ** 2) / (2 * SIGMA**2))
        scores.append(
            10 * length * sum(similarity(answer, reference, n) for n in ORDERS) / len(ORDERS)
        )
    return scores


class Cider(evaluate.Metric):
    """Mean CIDEr-D (Vedantam et al. 2015, section 6), between 0 and 10, document frequencies from
    the references given.

    Lower case, sacrebleu's 13a tokenizer without punctuation, one reference each. The reference
    code (coco-caption) is the same but for its tokenizer, and prints it under the name CIDEr.
    """

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Vedantam et al. 2015, CIDEr",
            inputs_description="texts",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        scores = cider_d(
            [plain_words(p) for p in predictions], [plain_words(r) for r in references]
        )
        return {"cider": sum(scores) / len(scores)}
