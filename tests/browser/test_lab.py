"""The harness itself: widgets and figures of every kind draw, answer and report in a real JupyterLab."""


def test_a_button_click_reaches_python(lab):
    lab.open_cells(
        "import ipywidgets\nclicks = []\nbutton = ipywidgets.Button(description='press me')\n"
        "button.on_click(clicks.append)\nbutton"
    )
    lab.run_all()
    lab.page.get_by_role("button", name="press me").click()
    lab.screenshot('button')
    assert lab.python("len(clicks)") == "1"


def test_plotly(lab):
    lab.open_cells("import plotly.graph_objects as go\nfig = go.Figure(go.Scattergl(x=[1,2,3], y=[1,4,9], mode='markers'))\nfig",
    "import plotly.io as pio; print(pio.renderers.default)")
    lab.run_all()
    print(lab.text(1), [list(o['data']) for o in lab.outputs()[0]], [len(str(o)) for o in lab.outputs()[0]])
    lab.page.wait_for_timeout(15000)
    lab.screenshot('plotly')
    print(lab.page.locator('.js-plotly-plot').count(), lab.page.complaints)


def test_anywidget(lab):
    lab.open_cells('''import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = """
export default { render({ model, el }) {
  const button = document.createElement("button");
  const draw = () => { button.textContent = `count is ${model.get("value")}`; };
  button.onclick = () => { model.set("value", model.get("value") + 1); model.save_changes(); };
  model.on("change:value", draw); draw(); el.append(button);
} };"""
    value = traitlets.Int(0).tag(sync=True)
counter = Counter()
counter''')
    lab.run_all()
    lab.page.get_by_role("button", name="count is 0").click()
    lab.page.get_by_role("button", name="count is 1").wait_for()
    assert lab.python("counter.value") == "1"
    lab.python("counter.value = 7")
    lab.page.get_by_role("button", name="count is 7").wait_for()
