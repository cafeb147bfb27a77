from test_keyboard import *
from test_keyboard import _ACTIVE
def test_dbg(lab):
    view, keys = opened(lab), Keys(lab.page)
    view.see("search").focus()
    lab.page.keyboard.type("shape:ring")
    keys.tab_to("select-found"); keys.press("Enter")
    lab.page.wait_for_timeout(500)
    print("after select", lab.page.evaluate(_ACTIVE))
    keys.tab_to("selection-name"); lab.page.keyboard.type("rings"); keys.press("Enter")
    for i in range(6):
        lab.page.wait_for_timeout(300); print("after name", lab.page.evaluate(_ACTIVE))
    for i in range(12):
        keys.press("Shift+Tab"); print(lab.page.evaluate(_ACTIVE))
