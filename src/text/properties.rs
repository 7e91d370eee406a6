//! What must hold for every text, however hostile.

use proptest::prelude::*;

use super::*;

const ENCODINGS: [PositionEncoding; 3] =
    [PositionEncoding::Utf8, PositionEncoding::Utf16, PositionEncoding::Utf32];

/// Short texts made of what breaks naive code: every line break, tabs, wide and combining characters.
pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "é",
        "e\u{301}",
        "漢",
        "𝒳",
        "👩‍👧",
        "\u{feff}",
        "\u{2028}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn edits() -> impl Strategy<Value = Vec<(usize, usize, String)>> {
    prop::collection::vec((0..60usize, 0..60usize, hostile_text()), 0..12)
}

proptest! {
    #[test]
    fn edits_equal_a_rebuilt_string(start in hostile_text(), edits in edits()) {
        let mut text = Text::new(start.clone());
        let mut naive = start;
        for (a, b, new) in edits {
            let applied = text.replace(a..b, &new);
            let from = floor_boundary(&naive, a.min(b));
            let to = floor_boundary(&naive, a.max(b));
            prop_assert_eq!(applied.old_end_point, point(&naive, to));
            naive = format!("{}{}{}", &naive[..from], new, &naive[to..]);
            prop_assert_eq!(text.as_str(), &naive);
            prop_assert_eq!(applied.start_point, point(&naive, from));
            prop_assert_eq!(applied.new_end_point, point(&naive, from + new.len()));
            let fresh = Text::new(naive.clone());
            for line in 0..=fresh.line_count() {
                prop_assert_eq!(text.line_range(line), fresh.line_range(line));
            }
            prop_assert_eq!(text.line_count(), fresh.line_count());
        }
    }

    #[test]
    fn positions_round_trip(content in hostile_text()) {
        let text = Text::new(content.clone());
        for encoding in ENCODINGS {
            for offset in 0..content.len() + 3 {
                let position = text.position(offset, encoding);
                let back = text.offset(position, encoding);
                prop_assert_eq!(text.position(back, encoding), position);
                let place = floor_boundary(&content, offset);
                let parts_crlf = place > 0 && content.as_bytes()[place - 1..].starts_with(b"\r\n");
                prop_assert_eq!(back, place - usize::from(parts_crlf));
            }
        }
    }

    #[test]
    fn encodings_agree_on_every_position(content in hostile_text(), line: u32, character: u32) {
        let text = Text::new(content);
        for encoding in ENCODINGS {
            for position in [
                Position { line, character },
                Position { line: line % 8, character: character % 16 },
            ] {
                let offset = text.offset(position, encoding);
                prop_assert!(text.as_str().is_char_boundary(offset));
                let back = text.position(offset, encoding);
                prop_assert!(back <= position || position.line as usize >= text.line_count());
            }
        }
    }

    #[test]
    fn the_minimal_edit_leads_from_one_text_to_the_other(a in hostile_text(), b in hostile_text()) {
        let after = minimal_edit(&a, &b).map_or(a.clone(), |edit| apply(&a, &[edit]));
        prop_assert_eq!(after, b);
    }

    #[test]
    fn editors_read_the_minimal_edit_as_it_is_meant(a in hostile_text(), b in hostile_text()) {
        if let Some(edit) = minimal_edit(&a, &b) {
            let text = Text::new(a);
            for encoding in ENCODINGS {
                for offset in [edit.range.start, edit.range.end] {
                    let position = text.position(offset, encoding);
                    prop_assert_eq!(text.offset(position, encoding), offset);
                }
            }
        }
    }
}

fn point(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let column = offset - before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count(), column)
}
