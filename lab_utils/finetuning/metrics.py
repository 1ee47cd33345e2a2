"""Text metrics for `evaluate` that need no download: `evaluate.load(this file, "bleu")`.

Each is a function of answers and references, one of each, to a number; the libraries do the
counting where they have the metric. Words are those of WMT's "13a" tokenizer.
"""

import math
import re
from collections import Counter
from types import SimpleNamespace

import datasets
import evaluate
import sacrebleu
from nltk.translate.meteor_score import single_meteor_score
from nltk.translate.nist_score import corpus_nist
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

_tokenizer = Tokenizer13a()
# in the place of WordNet, which would have to be downloaded
NO_SYNONYMS = SimpleNamespace(synsets=lambda word: [])


def words(text: str) -> list[str]:
    """Lower-case tokens, punctuation marks apart: what NIST and METEOR compare."""
    return _tokenizer(text.lower()).split()


def plain_words(text: str) -> list[str]:
    """`words` without those that are punctuation only: what CIDEr compares."""
    return [word for word in words(text) if re.search(r"\w", word)]


def rouge_l(answers: list[str], references: list[str]) -> float:
    """ROUGE-L: mean F-measure of the longest common subsequence of words (Lin 2004), between 0 and
    1; rouge_score does the counting.
    """
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    scores = [scorer.score(r, a)["rougeL"].fmeasure for a, r in zip(answers, references)]
    return sum(scores) / len(scores)


def bleu(answers: list[str], references: list[str]) -> float:
    """Corpus BLEU-4 (Papineni et al. 2002; Post 2018, sacrebleu), between 0 and 100."""
    return sacrebleu.corpus_bleu(answers, [references]).score


def nist(answers: list[str], references: list[str]) -> float:
    """Corpus NIST-5 (Doddington 2002), no upper limit: n-grams that are rare in the references
    count more. An order of n-grams that no answer is long enough for adds 0.
    """
    said, wanted = [words(a) for a in answers], [[words(r)] for r in references]
    orders = min(5, max(map(len, said)))
    return float(corpus_nist(wanted, said, orders)) if orders else 0.0


def meteor(answers: list[str], references: list[str]) -> float:
    """Mean METEOR (Banerjee and Lavie 2005), between 0 and 1, with exact and Porter-stem matches
    only.

    Recall counts nine times as much as precision, and a penalty of at most a half says into how
    many chunks the matches fall. It is not METEOR 1.5, the tool behind most papers: no synonyms, no
    paraphrases, other weights, and nltk's simple alignment, which takes the last free match of each
    word. Compare its values with each other only.
    """
    scores = [
        single_meteor_score(words(r), words(a), wordnet=NO_SYNONYMS)
        for a, r in zip(answers, references)
    ]
    return sum(scores) / len(scores)


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


def cider(answers: list[str], references: list[str]) -> float:
    """Mean CIDEr-D (Vedantam et al. 2015, section 6), between 0 and 10, document frequencies from
    the references given.

    Lower case, words without punctuation. The reference code (coco-caption) is the same but for its
    tokenizer, and prints it under the name CIDEr.
    """
    scores = cider_d([plain_words(a) for a in answers], [plain_words(r) for r in references])
    return sum(scores) / len(scores)


METRICS = {  # configuration: (name of the score, how it is computed)
    "rouge_l": ("rougeL", rouge_l),
    "bleu": ("bleu", bleu),
    "nist": ("nist", nist),
    "meteor": ("meteor", meteor),
    "cider": ("cider", cider),
}


class Overlap(evaluate.Metric):
    """How far texts overlap with one reference each, by the metric that the configuration names."""

    def _info(self):
        if self.config_name not in METRICS:
            raise ValueError(
                f"unknown metric {self.config_name!r}: expected one of {', '.join(METRICS)}"
            )
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=METRICS[self.config_name][1].__doc__,
            citation="see the description",
            inputs_description="texts",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        name, score = METRICS[self.config_name]
        return {name: score(predictions, references)}
