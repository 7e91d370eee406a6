//! Positions (UTF-8/16/32), edits and the text of a document.
