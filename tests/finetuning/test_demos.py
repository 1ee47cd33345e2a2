"""Demos of lab 06, driven as a browser would: type, press, read. No browser and no model needed."""

import pytest

from lab_utils.finetuning import demos as widgets
from lab_utils.finetuning.demos import BeforeAfterChat, LiveLoss

EXAMPLES = ["Where is Feta from?", "What is the main protein of milk?"]


class Handle:
    """Stands for the display handle of a notebook, and counts what it is told."""

    def __init__(self):
        self.shown, self.updates = [], []

    def display(self, picture, display_id):
        assert display_id is True
        self.shown.append(picture)
        return self

    def update(self, picture):
        self.updates.append(picture)


@pytest.fixture
def output(monkeypatch):
    handle = Handle()
    monkeypatch.setattr(widgets, "display", handle.display)
    return handle


# ---------------------------------------------------------------------------------------- the loss
def test_one_output_that_grows(output):
    live = LiveLoss("QLoRA")
    for step, loss in enumerate([4.0, 3.0, 2.0], start=1):
        live(step, 3, loss)
    assert len(output.shown) == 1 and len(output.updates) == 2
    assert (
        output.shown[0].description
        == "QLoRA, step 1 of 3: 4.00 nats per token; at step 1 it was 4.00."
    )
    assert (
        output.updates[-1].description
        == "QLoRA, step 3 of 3: 2.00 nats per token; at step 1 it was 4.00."
    )
    assert output.updates[-1]._repr_html_().startswith('<img alt="QLoRA, step 3 of 3')


def test_a_resumed_run_says_its_own_steps(output):
    live = LiveLoss("QLoRA")
    live(51, 100, 2.0)
    live(52, 100, 1.5)
    assert (
        output.shown[0].description
        == "QLoRA, step 51 of 100: 2.00 nats per token; at step 51 it was 2.00."
    )
    assert (
        output.updates[0].description
        == "QLoRA, step 52 of 100: 1.50 nats per token; at step 51 it was 2.00."
    )


def test_live_loss_watches_a_real_run(output, tiny_base, tmp_path):
    from lab_utils.finetuning.training import FinetuneConfig, finetune

    rows = [{"question": "Where?", "answer": "Here, my friend."}]
    result = finetune(
        FinetuneConfig("lora", steps=3, batch_size=1),
        rows,
        tmp_path / "run",
        LiveLoss("LoRA"),
        source=tiny_base,
    )
    assert len(output.shown) == 1 and len(output.updates) == 2
    assert f"step 3 of 3: {result.losses[-1]:.2f} nats" in output.updates[-1].description


def test_in_ipython_it_is_one_display_that_is_updated():
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    try:
        with capture_output() as caught:
            live = LiveLoss("LoRA")
            live(1, 2, 4.0)
            live(2, 2, 3.0)
    finally:
        InteractiveShell.clear_instance()
    first, second = caught.outputs
    assert not first.update and second.update and first.transient == second.transient
    assert "3.00 nats per token" in second.data["text/html"]


# ---------------------------------------------------------------------------------------- the chat
@pytest.fixture
def asked():
    return {"before": [], "after": []}


@pytest.fixture
def chat(asked):
    """A chat with two models that say what they were asked, fresh from its first question."""

    def model(name):
        return lambda question: asked[name].append(question) or f"{name} says {question}!"

    made = BeforeAfterChat(model("before"), model("after"), EXAMPLES)
    assert asked == {"before": EXAMPLES[:1], "after": EXAMPLES[:1]}, (
        "the first example is answered at once"
    )
    for questions in asked.values():
        questions.clear()
    return made


def test_the_first_example_is_shown_at_once(chat):
    assert (
        "before says Where is Feta from?!" in chat.answers.value
        and "after says Where is Feta from?!" in chat.answers.value
    )


def test_typing_a_question_asks_both_once(chat, asked):
    chat.box.value = "What is Brie?"
    assert asked == {"before": ["What is Brie?"], "after": ["What is Brie?"]}
    assert (
        "before says What is Brie?!" in chat.answers.value
        and "after says What is Brie?!" in chat.answers.value
    )
    assert chat.box.continuous_update is False, "not at every key"


def test_typing_and_then_pressing_the_button_asks_both_once(chat, asked):
    chat.box.value = (
        "Where is Brie from?"  # what leaving the box by a click on the button does first
    )
    chat.button.click()
    assert asked == {"before": ["Where is Brie from?"], "after": ["Where is Brie from?"]}
    assert "before says Where is Brie from?!" in chat.answers.value


def test_an_example_asks_both_once(chat, asked):
    chat.examples[1].click()
    assert asked == {"before": [EXAMPLES[1]], "after": [EXAMPLES[1]]}
    assert chat.box.value == EXAMPLES[1] and f"after says {EXAMPLES[1]}!" in chat.answers.value


def test_a_question_that_is_on_the_page_is_not_asked_again(chat, asked):
    chat.examples[0].click()
    chat.button.click()
    assert asked == {"before": [], "after": []}
    assert f"after says {EXAMPLES[0]}!" in chat.answers.value


def test_everything_is_on_the_page_and_labelled(chat):
    shown = []

    def walk(widget):
        shown.append(widget)
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(chat)
    assert all(widget in shown for widget in (chat.box, chat.button, chat.answers, *chat.examples))
    assert [
        button.description for button in chat.examples
    ] == EXAMPLES and chat.box.description == "Question"
    assert chat.button.tooltip and all(button.tooltip for button in chat.examples)


@pytest.mark.parametrize("which", ["before", "after"])
def test_a_value_error_of_a_model_is_said_kindly(which):
    def picky(question):
        if "long" in question:
            raise ValueError("the question has 900 tokens: ask a <shorter> question")
        return "Fine."

    chat = BeforeAfterChat(
        **{"before": lambda question: "Fine.", "after": lambda question: "Fine.", which: picky},
        examples=EXAMPLES,
    )
    chat.box.value = "a long question"
    assert "the question has 900 tokens: ask a &lt;shorter&gt; question" in chat.answers.value
    assert "Traceback" not in chat.answers.value and "ValueError" not in chat.answers.value
    chat.box.value = "a short one"
    assert chat.answers.value.count("Fine.") == 2, "and the chat goes on"


def test_other_errors_are_not_swallowed(asked):
    def broken(question):
        raise RuntimeError("CUDA is out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        BeforeAfterChat(broken, broken, EXAMPLES)


def test_questions_run_nothing(chat):
    chat.box.value = '<script>alert("x")</script>'
    assert "<script" not in chat.answers.value and "&lt;script&gt;" in chat.answers.value


def test_a_chat_with_a_real_model(tiny_base):
    from lab_utils.finetuning.base_model import load_base
    from lab_utils.finetuning.chat import answer_questions

    model, tokenizer = load_base(source=tiny_base)

    def ask(question):
        return answer_questions(model, tokenizer, [question], max_new_tokens=4)[0].text

    chat = BeforeAfterChat(ask, ask, EXAMPLES)
    chat.box.value = "   "
    assert "question is empty" in chat.answers.value
    chat.box.value = "why " * 400
    assert "context holds 256" in chat.answers.value
