// Help for readers without a mouse or a screen.
"use strict";

// Code, formulas and tables that are wider than the page can be scrolled by keyboard too
for (const box of document.querySelectorAll("pre, .formula, .table-wrapper")) {
  if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
}
// sphinx-gallery hides the text of these links, so that they have no name
for (const link of document.querySelectorAll(".sphx-glr-thumbcontainer p > a")) {
  link.setAttribute("aria-label", link.textContent);
}
