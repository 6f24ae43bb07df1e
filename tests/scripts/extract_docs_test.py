#!/usr/bin/env python3
"""scripts/extract_docs.py: prose stays, markup goes, documents end at headings."""

import json
import unittest

from sandbox import SCRIPTS, SandboxTest

FILLER = "A long sentence number {} that only fills the page so that it counts as one with something to say."

RST = """
:mod:`demo` --- A title
=======================

.. module:: demo
   :synopsis: Nothing.

.. comment that
   goes on here

The ``demo`` module, see :func:`~demo.run` and `the site <https://example.org>`_,
has *two* **lines**. For example::

   secret_code(1)

     still_code()

After the code.

.. note::

   A note inside.

.. function:: run()

   Runs it.

   >>> run()
   7

.. toctree::

   other

* An item
  continued.

+-----+-----+
| no  | no  |
+-----+-----+

"""

HTML = """<html><head><title>hidden title</title><style>p {{}}</style></head><body><h1>Head &amp; tail</h1>
<p>A <b>bold</b>
word.<p>Unclosed one.<pre>code()</pre><table><tr><td>cell</td></tr></table><ul><li>Item</ul>
<script>var x;</script><p>See other.html for more.</p><p>{}</p></body></html>"""


class ExtractDocsTest(SandboxTest):
    def extract(self, *folders):
        out = self.root / "out.jsonl"
        result = self.run_script(SCRIPTS / "extract_docs.py", out, *folders)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [json.loads(line)["text"] for line in out.read_text(encoding="utf-8").splitlines()]

    def write(self, name, text):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def filler(self, count):
        return [FILLER.format(i) for i in range(count)]

    def test_restructured_text(self):
        self.write("rst/sub/page.rst.txt", RST + "\n\n".join(self.filler(3)))
        self.write("rst/page.html", "<p>Not read where there are sources.</p>")
        (text,) = self.extract("rst")
        self.assertEqual(text.split("\n"), [
            "demo --- A title",
            "The demo module, see run and the site, has two lines. For example:",
            "After the code.",
            "A note inside.",
            "Runs it.",
            "An item continued.",
        ] + self.filler(3))

    def test_html(self):
        self.write("html/page.html", HTML.format(" </p><p>".join(self.filler(3))))
        (text,) = self.extract("html")
        self.assertEqual(text.split("\n"), ["Head & tail", "A bold word.", "Unclosed one.", "Item"] + self.filler(3))

    def test_documents_end_at_headings_and_no_paragraph_comes_twice(self):
        page = "".join(f"<h2>Part {part}</h2>" + "".join(f"<p>{part}: {line}</p><p>Menu</p>" for line in self.filler(30))
                       for part in range(3))
        self.write("html/a.html", page)
        self.write("html/b.html", page)  # all of it has been seen
        texts = self.extract("html")
        self.assertEqual(sorted(text.split("\n")[0] for text in texts), ["Part 0", "Part 1", "Part 2"])
        self.assertEqual("\n".join(texts).count("Menu"), 1)

    def test_order_is_mixed_and_always_the_same(self):
        page = "".join(f"<h2>Part {part}</h2>" + "".join(f"<p>{part}: {line}</p>" for line in self.filler(30))
                       for part in range(20))
        self.write("html/a.html", page)
        texts = self.extract("html")
        self.assertEqual(texts, self.extract("html"))
        parts = [text.split("\n")[0] for text in texts]
        self.assertEqual(len(set(parts)), 20)
        self.assertNotEqual(parts, [f"Part {part}" for part in range(20)])

    def test_page_without_headings_is_cut_too(self):
        self.write("html/a.html", "".join(f"<p>{line}</p>" for line in self.filler(300)))
        texts = self.extract("html")
        self.assertGreater(len(texts), 2)
        self.assertLess(max(map(len, texts)), 9000)

    def test_nothing_to_read(self):
        (self.root / "empty").mkdir()
        result = self.run_script(SCRIPTS / "extract_docs.py", self.root / "out.jsonl", "empty")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no *.rst.txt and no *.html under empty", result.stderr)
        self.assertFalse((self.root / "out.jsonl").exists())


if __name__ == "__main__":
    unittest.main()
