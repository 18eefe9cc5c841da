namespace Tutti.Cpu.Interpreter.Tests.Blocks;

public unsafe class OpTests
{
    [Fact]
    public void An_op_is_48_bytes() => Assert.Equal(48, sizeof(Op));
}
