"""Corpus BLEU as an `evaluate` metric that needs no download: sacrebleu does the counting."""

import datasets
import evaluate
import sacrebleu


class Bleu(evaluate.Metric):
    """Corpus BLEU-4 (Papineni et al. 2002) with sacrebleu's 13a tokenizer, between 0 and 100."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Papineni et al. 2002, BLEU; Post 2018, sacrebleu",
            inputs_description="texts",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        return {"bleu": sacrebleu.corpus_bleu(predictions, [references]).score}
