#!/usr/bin/env python3
"""Converts unpacked documentation to plain English documents: one {"text": ...} per line of a .jsonl file.

usage: extract_docs.py OUT.jsonl FOLDER...

Each FOLDER is read as reStructuredText if it holds Sphinx sources (*.rst.txt), as HTML pages otherwise. Prose is kept,
one paragraph per line; code samples, tables, menus and markup are dropped. Pages are cut at headings into documents of a few
thousand characters, so that splitting by document puts every subject into both parts. Duplicate paragraphs are dropped.
Documents are shuffled with a fixed seed, so that a model does not see one subject after the other. The same input always
gives the same output.
"""

import html.parser
import json
import os
import pathlib
import random
import re
import sys

MIN_DOCUMENT = 2000  # characters; a document ends at the first heading after these,
MAX_DOCUMENT = 8000  # or at the first paragraph after these
MIN_PAGE = 200  # characters; pages with less than this are indexes and stubs

# A page is a list of (is_heading, text).

ADORNMENT = re.compile(r"([=\-~^\"'*#+.:`])\1{2,}$")
DIRECTIVE = re.compile(r"\.\. (?:\|[^|]+\| )?([\w:+-]+)::(.*)$")
PROSE_DIRECTIVES = {
    "note", "warning", "tip", "important", "caution", "hint", "seealso", "topic", "sidebar", "rubric", "epigraph", "glossary",
    "impl-detail", "versionadded", "versionchanged", "deprecated", "function", "class", "method", "attribute", "data",
    "exception", "module", "option", "cfunction", "describe", "object", "classmethod", "staticmethod", "decorator", "opcode",
    "c:function", "c:type", "c:macro", "c:member", "c:var", "2to3fixer", "pdbcommand", "availability", "deprecated-removed",
}
INLINE_RST = [
    (re.compile(r":[\w:+-]+:`[!~]?([^`<]+?)\s*<[^`>]*>`"), r"\1"),  # :role:`text <target>`
    (re.compile(r":[\w:+-]+:`~[^`]*?([^`.]+)`"), r"\1"),  # :role:`~package.name`
    (re.compile(r":[\w:+-]+:`!?([^`]+)`"), r"\1"),  # :role:`name`
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?"), r"\1"),  # `text <address>`_
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*(\S(?:.*?\S)?)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*(\S(?:[^*]*?\S)?)\*(?![\w*])"), r"\1"),
    (re.compile(r"\|(\w+)\|_?"), r"\1"),
    (re.compile(r"\[(?:#\w*|\d+)\]_"), ""),
    (re.compile(r"\\(.)"), r"\1"),
]


def plain_rst(text):
    for pattern, replacement in INLINE_RST:
        text = pattern.sub(replacement, text)
    return re.sub(r"::$", ":", re.sub(r"\s+::$", "", " ".join(text.split())))


def read_rst(source):
    page, paragraph = [], []
    skip_deeper_than = None  # inside a code sample, comment or table of contents indented more than this

    def flush():
        nonlocal paragraph
        if paragraph:
            page.append((False, plain_rst(" ".join(paragraph))))
        paragraph = []

    lines = source.splitlines()
    for number, raw in enumerate(lines):
        line = raw.strip()
        indent = len(raw) - len(raw.lstrip())
        if not line:
            if paragraph and paragraph[-1].endswith("::"):
                skip_deeper_than = paragraph_indent
            flush()
            continue
        if skip_deeper_than is not None:
            if indent > skip_deeper_than:
                continue
            skip_deeper_than = None
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if line.startswith(".. ") or line == "..":
            flush()
            directive = DIRECTIVE.match(line)
            if not directive or directive.group(1) not in PROSE_DIRECTIVES:
                skip_deeper_than = indent
            continue
        if indent == 0 and ADORNMENT.match(following) and len(following) >= len(line) and not ADORNMENT.match(line):
            flush()
            page.append((True, plain_rst(line)))
            continue
        if ADORNMENT.match(line) or re.match(r"[+|]|=+ +=|>>>|\.\.\. |:[\w ]+:(?:\s|$)|__ ", line):
            flush()  # rules, tables, interactive sessions, options
            continue
        item = re.match(r"(?:[-*•]|#\.|\(?\d+[.)])\s+(.*)$", line)
        if item:
            flush()
            line = item.group(1)
        if not paragraph:
            paragraph_indent = indent
        paragraph.append(line)
    flush()
    return page


class HtmlPage(html.parser.HTMLParser):
    HIDDEN = {"head", "script", "style", "nav", "pre", "svg", "table", "form", "button"}
    HEADINGS = {"h1", "h2", "h3", "h4"}
    BLOCKS = HEADINGS | {"p", "div", "li", "dt", "dd", "br", "hr", "ul", "ol", "dl", "blockquote", "body", "center", "section"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.page, self.words, self.hidden, self.heading = [], [], 0, False

    def flush(self):
        text = " ".join("".join(self.words).split())
        if text:
            self.page.append((self.heading, text))
        self.words = []

    def handle_starttag(self, tag, attributes):
        if tag in self.BLOCKS:
            self.flush()
        if tag in self.HEADINGS:
            self.heading = True
        if tag in self.HIDDEN:
            self.hidden += 1

    def handle_endtag(self, tag):
        if tag in self.BLOCKS:
            self.flush()
        if tag in self.HEADINGS:
            self.heading = False
        if tag in self.HIDDEN and self.hidden:
            self.hidden -= 1

    def handle_data(self, text):
        if not self.hidden:
            self.words.append(text)


def read_html(source):
    parser = HtmlPage()
    parser.feed(source)
    parser.close()
    parser.flush()
    return parser.page


def documents(page, seen):
    """Cuts one page at its headings; `seen` holds every paragraph written so far, on any page."""
    text, heading = [], None
    size = 0
    for is_heading, line in page:
        if is_heading:
            if size >= MIN_DOCUMENT:
                yield "\n".join(text)
                text, size = [], 0
            heading = line
        elif re.search(r"[A-Za-z]{2}", line) and ".html" not in line and line not in seen:  # .html: a cross-reference
            seen.add(line)
            if heading:
                text.append(heading)
                heading = None
            text.append(line)
            size += len(line)
            if size >= MAX_DOCUMENT:
                yield "\n".join(text)
                text, size = [], 0
    if size >= MIN_PAGE:
        yield "\n".join(text)


def main(arguments):
    if len(arguments) < 2:
        sys.exit("usage: extract_docs.py OUT.jsonl FOLDER...")
    out, folders = pathlib.Path(arguments[0]), [pathlib.Path(name) for name in arguments[1:]]
    seen, texts = set(), []
    for folder in folders:
        reader, files = read_rst, sorted(folder.rglob("*.rst.txt"))
        if not files:
            reader, files = read_html, sorted(folder.rglob("*.html"))
        if not files:
            sys.exit(f"extract_docs: no *.rst.txt and no *.html under {folder}")
        for file in files:
            texts.extend(documents(reader(file.read_text(encoding="utf-8", errors="replace")), seen))
    if not texts:
        sys.exit("extract_docs: no prose in the pages")
    random.Random(0).shuffle(texts)
    temporary = out.with_name(out.name + ".part")
    with open(temporary, "w", encoding="utf-8") as sink:
        for text in texts:
            sink.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    os.replace(temporary, out)
    print(f"{out}: {len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f} million characters")


if __name__ == "__main__":
    main(sys.argv[1:])
