def report(result): return "todo"
