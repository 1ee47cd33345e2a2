"""The demos of lab 06 in a real browser: what is typed is answered, by two models, in the page."""

import pytest

pytestmark = pytest.mark.browser

CHAT = """
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import answer_questions
from lab_utils.finetuning.demos import BeforeAfterChat
model, tokenizer = load_base("cpu")
def ask(question, system=None):
    return answer_questions(model, tokenizer, [question], system)[0].text
BeforeAfterChat(ask, lambda question: ask(question, "Speak like an old sailor."),
                ["Where does Feta come from?", "What milk is Roquefort made from?"])
"""


def test_typing_a_question_is_answered_by_both(open_demo):
    page = open_demo(CHAT)
    answers = page.locator("[role=status]")
    answers.get_by_text("Greece").first.wait_for()
    box = page.get_by_label("Question")
    box.fill("Where does Manchego come from?")
    box.press("Enter")
    answers.get_by_text("Spain").first.wait_for()
    assert answers.get_by_text("Before").count() == 1 and answers.get_by_text("After").count() == 1


def test_an_example_is_asked_by_keyboard(open_demo):
    page = open_demo(CHAT)
    button = page.get_by_role("button", name="What milk is Roquefort made from?")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("[role=status]").get_by_text("sheep").first.wait_for()


def test_an_empty_question_is_answered_kindly(open_demo):
    page = open_demo(CHAT)
    box = page.get_by_label("Question")
    box.fill("   ")
    box.press("Enter")
    page.locator("[role=status]").get_by_text("question is empty").first.wait_for()


def test_the_live_loss_grows_in_place(open_demo):
    page = open_demo("""
from lab_utils.finetuning.demos import LiveLoss
watch = LiveLoss("QLoRA loss")
for step, loss in enumerate([4.0, 2.0, 1.0], start=1):
    watch(step, 3, loss)
""")
    pictures = page.locator(".jp-OutputArea-output img[alt]")
    pictures.first.wait_for()
    assert pictures.count() == 1  # updated, not repeated
    assert (
        pictures.get_attribute("alt")
        == "QLoRA loss, step 3 of 3: 1.00 nats per token; at step 1 it was 4.00."
    )
