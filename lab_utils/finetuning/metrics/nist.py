"""NIST as an `evaluate` metric that needs no download: nltk does the counting."""

import datasets
import evaluate
from nltk.translate.nist_score import corpus_nist

from lab_utils.finetuning.metrics import words


class Nist(evaluate.Metric):
    """Corpus NIST-5 (Doddington 2002), no upper limit: n-grams that are rare in the references
    count more.

    Lower case, sacrebleu's 13a tokenizer, one reference each. An order of n-grams that no answer is
    long enough for adds 0.
    """

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Doddington 2002, NIST",
            inputs_description="texts",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        said, wanted = [words(p) for p in predictions], [[words(r)] for r in references]
        orders = min(5, max(map(len, said)))
        return {"nist": float(corpus_nist(wanted, said, orders)) if orders else 0.0}
