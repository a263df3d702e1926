//! Table-driven tests of every instruction.
