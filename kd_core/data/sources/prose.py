"""First sentences of HTML documentation: tags removed, notices that say nothing about the subject left out."""

from __future__ import annotations

import html
import re

_ASIDE = re.compile(r"<(note|important|caution|pre)\b[^>]*>.*?</\1>", re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(
    r"</?(?:p|br|li|ul|ol|dl|dt|dd|div|h[1-6]|note|important|table|tr|td|th|pre)\b[^>]*>", re.IGNORECASE
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_SPACE = re.compile(r"[^\S\n]+")
_SPACE_BEFORE_POINT = re.compile(r"\s+([.,;:!?)\]])")
_SPACE_AFTER_BRACKET = re.compile(r"([(\[])\s+")
_END = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)(?<!\bNo\.)(?<!\bU\.S\.)\s+(?=[A-Z\d\"'(])"
)

_NOTICE = re.compile(
    r"""
    not\ supported\ (?:for|by|in|with)\ (?:directory|general\ purpose|Amazon\ S3\ on\ Outposts)
    | \b(?:in|is\ a)\ (?:public\ )?preview\b | preview\ release | subject\ to\ change
    | end\ of\ support | no\ longer\ (?:open\ to\ new|available|supported|maintained|recommended)
    | \b(?:is|are|been|being|now)\ deprecated\b | ^\(?deprecated\b | \bdiscontinu | \bwill\ be\ (?:removed|retired)
    | ^\(?(?:for\ (?:more|additional|further|detailed)\ (?:information|details)|see(?:\ also)?\b|to\ learn\ more)
    | ^(?:note|important|warning|caution)\b[:\s] | ^we\ (?:strongly\ )?recommend\b
    | ^this\ api\ works\ with\b | \bavailable\ as\ a\ preview | ^to\ request\ access\b
    | \bdeprecating\b | \ba\ deprecated\b
    | ^this\ (?:page|section|topic|content|data\ type)\b | ^\(?(?:intended\ )?for\ internal\ use | ^reserved\ for
    | ^(?:amazon\ web\ services|aws)\ (?:uses|sdks?)\b | ^(?:you\ must|to\ use\ this|required\ permissions)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]{2,}")


def paragraphs(documentation: str) -> list[str]:
    """The paragraphs of HTML documentation as plain text, without notes and boxes unless there is nothing else."""
    kept = _plain(_ASIDE.sub("\n", documentation))
    return kept or _plain(documentation)


def first_sentence(documentation: str, words: int = 4) -> str:
    """The first sentence that is no notice, with the next ones of its paragraph while it has fewer than `words` words.

    Empty if there is none.
    """
    for paragraph in paragraphs(documentation):
        sentences = [s for s in _END.split(paragraph) if _LETTERS.search(s) and not _NOTICE.search(s)]
        if sentences:
            taken = 1
            while taken < len(sentences) and len(" ".join(sentences[:taken]).split()) < words:
                taken += 1
            return " ".join(sentences[:taken])
    return ""


def _plain(markup: str) -> list[str]:
    text = html.unescape(_TAG.sub("", _BLOCK.sub("\n", markup.replace("\n", " "))))
    lines = (_SPACE.sub(" ", line.replace("\u200b", "")).strip() for line in text.split("\n"))
    return [_SPACE_AFTER_BRACKET.sub(r"\1", _SPACE_BEFORE_POINT.sub(r"\1", line)) for line in lines if line]
