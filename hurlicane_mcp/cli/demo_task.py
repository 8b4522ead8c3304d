"""The task of the demo: for a model as it stands, for a scripted agent with the script below it.

A lead gives out three jobs: a module and its tests side by side, then a third one that runs the
tests. They share one work tree, so each commits its own file only.
"""

from typing import Final

TITLE: Final = "Build greet.py with tests"

#: What a model reads.
TASK: Final = """\
This folder is a git repository. Have other agents build a small Python module in it. Do not write \
any files yourself. Create three jobs with create_job, each with completion "finish_job":

1. title "Write greet.py": write greet.py with a function greet(name: str) -> str that returns \
"Hello, NAME!", and commit that file alone.
2. title "Write its tests": write test_greet.py with unittest tests of greet from greet.py \
(another agent writes that file at the same time, so do not run them), and commit that file alone.
3. title "Run the tests", depends_on the two others: run `python3 -m unittest`, put how many tests \
passed into a file TESTED.md, and commit that file alone.

Tell each of them that other agents commit in the same folder, and to try again after a second if \
git says that its index is locked. Then wait for all three with wait_for_jobs, and call finish_job \
with a summary of their results in one or two sentences.
"""

#: What a scripted agent follows; for a model it would be in the way.
SCRIPT: Final = """
```yaml script
steps:
  - call: {name: report_status, args: {text: Giving out three jobs}}
  - call:
      name: create_job
      as: module
      args:
        title: Write greet.py
        description: |
          Write greet.py with a function greet(name), and commit it.
          ```yaml script
          steps:
            - call: {name: report_status, args: {text: Writing greet.py}}
            - sleep: 1.2
            - commit:
                path: greet.py
                write: |
                  def greet(name: str) -> str:
                      return f"Hello, {name}!"
                message: Add greet
            - usage: {input: 1800, output: 120, cost_usd: "0"}
            - finish: greet.py returns "Hello, NAME!".
          ```
  - call:
      name: create_job
      as: tests
      args:
        title: Write its tests
        description: |
          Write test_greet.py with tests of greet, and commit it.
          ```yaml script
          steps:
            - call: {name: report_status, args: {text: Writing test_greet.py}}
            - sleep: 1.5
            - commit:
                path: test_greet.py
                write: |
                  import unittest

                  from greet import greet


                  class GreetTest(unittest.TestCase):
                      def test_it_greets_by_name(self) -> None:
                          self.assertEqual(greet("Ada"), "Hello, Ada!")

                      def test_it_greets_nobody(self) -> None:
                          self.assertEqual(greet(""), "Hello, !")
                message: Add tests of greet
            - finish: test_greet.py has two tests.
          ```
  - call:
      name: create_job
      as: check
      args:
        title: Run the tests
        depends_on: ["${module.job_id}", "${tests.job_id}"]
        description: |
          Run the tests, note the outcome in TESTED.md, and commit it.
          ```yaml script
          steps:
            - call: {name: report_status, args: {text: Running the tests}}
            - run: {argv: [python3, -m, unittest], as: ran}
            - commit:
                path: TESTED.md
                write: "Tested, exit code $${ran.exit_code}.\\n\\n$${ran.output}"
                message: Note that the tests pass
            - finish: The tests were run and ended with exit code $${ran.exit_code}.
          ```
  - call:
      name: wait_for_jobs
      as: all
      args: {job_ids: ["${module.job_id}", "${tests.job_id}", "${check.job_id}"]}
  - finish: >-
      Three agents built it. ${all.jobs.0.result} ${all.jobs.1.result} ${all.jobs.2.result}
```
"""
