"""The harness itself: buttons, figures and widgets draw, answer and report in a real JupyterLab, without a network."""

import pytest
from lab import Server, in_earnest, until

TRACE = 'Traceback (most recent call last):\n  File "<here>", line 1, in <module>\nown.Mishap: of the server\n'
COUNTER = '''
import anywidget, traitlets

class Counter(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      const button = document.createElement("button");
      const draw = () => { button.textContent = `count is ${model.get("value")}`; };
      button.onclick = () => { model.set("value", model.get("value") + 1); model.save_changes(); };
      model.on("change:value", draw);
      draw();
      el.append(button);
    } };
    """
    value = traitlets.Int(0).tag(sync=True)

counter = Counter()
counter
'''
BUTTON = """
import ipywidgets
clicks = []
button = ipywidgets.Button(description="press me")
button.on_click(clicks.append)
button
"""
FIGURE = """
import plotly.graph_objects as go
go.Figure(go.Scattergl(x=[1, 2, 3], y=[4, 5, 6], mode="markers", text=["one", "two", "three"]))
"""


def test_a_button_a_widget_and_a_figure_work_in_both_directions(lab):
    lab.open_cells(BUTTON, COUNTER, FIGURE)
    lab.run_all()

    lab.cell(0).get_by_role("button", name="press me").click()
    assert lab.python("len(clicks)") == "1"

    counter = lab.cell(1)
    counter.get_by_role("button", name="count is 0").click()
    counter.get_by_role("button", name="count is 1").wait_for()
    assert lab.python("counter.value") == "1"
    lab.python("counter.value = 7")
    counter.get_by_role("button", name="count is 7").wait_for()

    figure = lab.cell(2)
    figure.locator(".nsewdrag").hover()  # the middle of the axes, where the second of three points lies
    assert figure.locator(".hoverlayer").get_by_text("two").is_visible()
    assert lab.screenshot("harness").stat().st_size > 10_000


def test_texts_are_read_back(lab):
    lab.open_cells("print('said')\n41 + 1", "")
    lab.run_all()
    assert lab.text(0) == "said\n42"
    assert lab.text(1) == ""
    assert lab.python("print('a'); 'b'") == "a\n'b'"


def test_errors_of_cells_callbacks_and_the_page_are_heard(lab, page):
    lab.open_cells(COUNTER, "counter.observe(lambda change: [].pop(), 'value')", "1 / 0", "print('never')")
    with pytest.raises(AssertionError, match="ZeroDivisionError: division by zero"):
        lab.run_all()
    assert lab.text(3) == ""
    with pytest.raises(AssertionError, match="NameError: name 'nothing' is not defined"):
        lab.python("nothing")
    lab.cell(0).get_by_role("button", name="count is 0").click()
    lab.python(f"import os; os.write(2, {TRACE.encode()!r})")
    page.evaluate(
        "() => { console.error('told'); fetch('/no/such/page'); setTimeout(() => { throw new Error('thrown'); }); }"
    )
    heard, told = [], ("ZeroDivision", "NameError", "pop from empty list", TRACE.strip())
    until(page, lambda: heard.extend(lab.complaints()) or all(word in "\n".join(heard) for word in told))
    seen = ("told", "response 404", "page error: Error: thrown")
    until(page, lambda: all(word in "\n".join(page.complaints) for word in seen))
    page.complaints.clear()


# What Python writes where a page is closed while a message is on its way to it.
CLOSED = """Task exception was never retrieved
future: <Task finished name='Task-7' coro=<WebSocketProtocol13.write_message.<locals>.wrapper() done, defined at /a/b.py:1> exception=WebSocketClosedError()>
Traceback (most recent call last):
  File "/a/b/tornado/websocket.py", line 1140, in wrapper
    await fut
tornado.iostream.StreamClosedError: Stream is closed

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/a/b/tornado/websocket.py", line 1142, in wrapper
    raise WebSocketClosedError()
tornado.websocket.WebSocketClosedError
"""  # noqa: E501
SAID = "[I 2026-01-01 00:00:00.000 ServerApp] Starting buffering\n"


@pytest.mark.parametrize(
    ("log", "heard"),
    [
        (SAID + CLOSED + CLOSED + SAID, []),
        (CLOSED + TRACE + SAID, [CLOSED + TRACE.strip()]),  # more than what is known
        (CLOSED.replace("wrapper", "other"), [CLOSED.replace("wrapper", "other").strip()]),
        (TRACE + SAID, [TRACE.strip()]),
        (SAID.replace("I", "E", 1) + "its end\n" + SAID, [SAID.replace("I", "E", 1) + "its end"]),
    ],
)
def test_a_complaint_is_heard_in_full_and_only_the_end_of_a_closed_page_is_forgiven(tmp_path, log, heard):
    server = Server(tmp_path)
    server.log.write_text(SAID + log)
    assert in_earnest(server.complaints(len(SAID))) == heard
