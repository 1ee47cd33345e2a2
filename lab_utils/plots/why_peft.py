"""Pictures of lab 00's story: a model learns to speak, examples in its prompt, a quiz. Numbers come in, pictures go out."""

import html
import textwrap
from collections.abc import Sequence

from lab_utils.plots import style
from lab_utils.plots.style import BLUE, GREEN, GREY, VERMILLION, Picture, picture
from lab_utils.quiz import Question


def story_picture(rows: Sequence[tuple[int, float | None, str]], question: str, n_characters: int = 58) -> Picture:
    """(step, loss, answer) from top to bottom; the bar behind the loss shrinks as the model learns."""
    def short(answer: str) -> str:
        return textwrap.shorten(answer, n_characters, placeholder=" ...") or "(nothing)"

    parts = [style.text(0, 28, question, 24, bold=True), style.text(62, 66, "step", 18, GREY, "end")]
    parts += [style.text(90, 66, "loss", 18, GREY), style.text(230, 66, "answer", 18, GREY)]
    top = max(loss for _, loss, _ in rows if loss is not None)
    for i, (step, loss, answer) in enumerate(rows):
        y = 78 + 42 * i
        parts += [style.text(62, y + 26, step, 20, anchor="end", bold=True), style.text(230, y + 26, short(answer), 20)]
        if loss is not None:
            parts.append(style.rect(90, y + 4, style.placed(loss, 0, top, 0, 120), 30, "#BBD8EA"))
            parts.append(style.text(96, y + 26, f"{loss:.2f}", 20))
    said = " ".join(f"Step {step}: {short(answer)}" for step, _, answer in rows)
    return style.svg(1000, 90 + 42 * len(rows), f"{question} {said}", *parts)


@style.styled
def shots_figure(shots: Sequence[int], shares: dict[str, Sequence[float]], tuned: float) -> Picture:
    """Share of answers in the voice that the prompt shows, by the number of examples; a line for fine-tuning without any."""
    figure, axes = style.new_figure(width=10, height=4.4)
    looks = ((BLUE, "o", "-"), (VERMILLION, "s", "--"))
    for (name, values), (color, marker, dashes) in zip(shares.items(), looks, strict=False):
        axes.plot(shots, values, dashes, color=color, marker=marker, label=name)
    axes.axhline(tuned, color=GREY, linestyle=":", label="Pavlos after fine-tuning, no examples")
    axes.set(xlabel="examples in the prompt", ylabel="share in the voice shown", xticks=list(shots), ylim=(-0.05, 1.08))
    axes.legend(loc="center left", bbox_to_anchor=(0.28, 0.5))
    told = "; ".join(f"{name}: {', '.join(f'{value:.2f}' for value in values)}" for name, values in shares.items())
    return style.described(figure, f"Share of answers in the voice shown, with {', '.join(map(str, shots))} examples. {told}. "
                           f"Pavlos fine-tuned, no examples: {tuned:.2f}.")


# ---------------------------------------------------------------------------------------- quiz
def question_html(number: int, question: Question) -> str:
    """A question's text, large enough for a hall."""
    return f'<p style="font-size:120%;margin:10px 0 2px"><b>{number}.</b> {html.escape(question.text)}</p>'


def feedback_html(right: bool, said: str) -> str:
    """What to say to a chosen answer; read aloud by screen readers when it changes."""
    color, word = (GREEN, "✓ Right.") if right else (VERMILLION, "✗ Not quite.")
    said = said.removeprefix("Right: ").removeprefix("Right. ")  # the mark says that already
    return (f'<div role="status" aria-live="polite" style="border-left:8px solid {color};padding:4px 14px;font-size:110%">'
            f"<b>{word}</b> {html.escape(said[:1].upper() + said[1:])}</div>")


def score_html(right: int, given: int, of: int) -> str:
    """The score so far."""
    return f'<p role="status" style="font-size:120%"><b>{right} right of {given} answered</b>, {of} questions in all.</p>'


def quiz_page(questions: Sequence[Question]) -> Picture:
    """The quiz where no kernel runs: each answer opens and says what it means."""
    parts = []
    for number, question in enumerate(questions, 1):
        parts.append(question_html(number, question))
        for option, said in question.options.items():
            body = feedback_html(option == question.right, said).replace(' role="status" aria-live="polite"', "")
            parts.append(f'<details style="margin-left:24px"><summary>{html.escape(option)}</summary>{body}</details>')
    return picture("".join(parts), f"A quiz of {len(questions)} questions; open an answer to see whether it is right.")
