(section . (atx_heading heading_content: (_) @name)) @module
(setext_heading heading_content: (_) @name) @module
(fenced_code_block) @block
