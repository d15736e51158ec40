"""Wiki markup becomes prose."""

from __future__ import annotations

import pytest

from fyc.assets.wikitext import articles, halves, plain

EXPORT = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
  <siteinfo><sitename>W</sitename></siteinfo>
  <page><title>Long</title><ns>0</ns><revision><text>{long}</text></revision></page>
  <page><title>Moved</title><ns>0</ns><redirect title="Long" /><revision><text>{long}</text></revision></page>
  <page><title>Talk:Long</title><ns>1</ns><revision><text>{long}</text></revision></page>
  <page><title>Stub</title><ns>0</ns><revision><text>short</text></revision></page>
  <page><title>Empty</title><ns>0</ns><revision><text /></revision></page>
  <page><title>Other</title><ns>0</ns><revision><text>{long} &amp;ndash; end</text></revision></page>
</mediawiki>"""


@pytest.mark.parametrize(
    ("markup", "prose"),
    [
        ("'''Bold''' and ''italic''", "Bold and italic"),
        ("a [[link]] and [[target|label]]", "a link and label"),
        ("before {{cite|a={{nested}}|b}} after", "before after"),
        ("{| class=x\n| cell\n{| inner\n|}\n|}\ntext", "text"),
        ("[[File:a.jpg|thumb|A [[linked]] caption]]text", "text"),
        ("[[Category:Things]]\ntext\n[[fr:Chose]]", "text"),
        ("word<ref name=a>note</ref>, next<ref name=b />.", "word, next."),
        ("<math>x^2</math> is <b>bold</b>", "is bold"),
        ("a<!-- hidden\ncomment -->b", "ab"),
        ("[http://example.org/ the site] and [http://example.org/]", "the site and"),
        ("text\n== Heading ==\nmore", "text\nHeading\nmore"),
        ("text\n== References ==\n* one\n== More ==\ngone too", "text"),
        ("* item\n# item\n: indented", "item\nitem\nindented"),
        ("unit ({{lang}}; ) done", "unit done"),
        ("5&nbsp;km &amp;ndash; far", "5 km &ndash; far"),
        ("left }} alone", "left }} alone"),
        ("never closed {{ rest", "never closed"),
        ("__TOC__text", "text"),
    ],
)
def test_plain(markup: str, prose: str) -> None:
    assert plain(markup) == prose


def test_articles_are_pages_with_enough_prose() -> None:
    long = "Words and words. " * 40
    found = articles(EXPORT.format(long=long).encode())
    assert [text.split("\n")[0] for text in found] == ["Long", "Other"]
    assert found[1].endswith("\u2013 end")


def test_halves_share_no_article() -> None:
    first, second = halves(["a" * 30, "b" * 30, "c" * 30, "d" * 40])
    assert first == "\n\n".join(["a" * 30, "b" * 30, "c" * 30])
    assert second == "d" * 40
    assert halves([]) == ("", "")
