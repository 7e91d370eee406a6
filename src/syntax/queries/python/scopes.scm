(function_definition name: (_) @name body: (_) @body) @function
(class_definition name: (_) @name body: (_) @body) @class
(type_alias_statement left: (_) @name) @other
(module (expression_statement (assignment left: (identifier) @name)) @other)

(if_statement consequence: (_) @body) @block
(elif_clause consequence: (_) @body) @block
(else_clause body: (_) @body) @block
(for_statement body: (_) @body) @block
(while_statement body: (_) @body) @block
(with_statement body: (_) @body) @block
(try_statement body: (_) @body) @block
(except_clause (block) @body) @block
(finally_clause (block) @body) @block
(match_statement body: (_) @body) @block
(case_clause consequence: (_) @body) @block
