(function_item name: (_) @name body: (_) @body) @function
(function_signature_item name: (_) @name) @function
(impl_item type: (_) @name body: (_)? @body) @class
(trait_item name: (_) @name body: (_) @body) @class
(struct_item name: (_) @name body: (_)? @body) @class
(enum_item name: (_) @name body: (_) @body) @class
(union_item name: (_) @name body: (_) @body) @class
(mod_item name: (_) @name body: (_)? @body) @module
(foreign_mod_item body: (_) @body) @module
(const_item name: (_) @name) @other
(static_item name: (_) @name) @other
(type_item name: (_) @name) @other
(macro_definition name: (_) @name) @other

(if_expression consequence: (_) @body) @block
(else_clause (block) @body) @block
(for_expression body: (_) @body) @block
(while_expression body: (_) @body) @block
(loop_expression body: (_) @body) @block
(match_expression body: (_) @body) @block
(match_arm value: (block) @body) @block
(closure_expression body: (block) @body) @block
(unsafe_block (block) @body) @block
(async_block (block) @body) @block
(let_declaration alternative: (_) @body) @block
