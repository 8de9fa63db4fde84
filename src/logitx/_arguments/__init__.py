"""Argument rules: each public function's arguments are checked here and become a Plan and operands."""
