"""The generated scenes and their network, for the tests of saliency that do not draw their own."""

import pytest

import vizkit as vk


@pytest.fixture(scope="session")
def scenes():
    return vk.scenes("held-out")


@pytest.fixture(scope="session")
def encoder():
    return vk.Encoder("scenes")
