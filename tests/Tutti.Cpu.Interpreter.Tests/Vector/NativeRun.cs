using Iced.Intel;
using Tutti.Host;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>
/// The processor oracle for vector and x87 instructions: runs an instruction with its own registers on the host, after
/// loading general registers, arithmetic flags, the FXSAVE area and the upper halves of YMM registers from a <see cref="CpuState"/> and before storing them back.
/// RSP is the host's; nothing may use it. MXCSR must have all exceptions masked and no x87 exception may be pending.
/// </summary>
internal sealed unsafe class NativeRun : IDisposable
{
    private static readonly Register[] Saved = [Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15];

    private static readonly int UpperHalves = AvxFactAttribute.Missing == null ? 16 : 0;

    private readonly ExecutableMapping _code = new(4096);

    public NativeRun(in Instruction instruction)
    {
        CpuState layout;
        int flags = (int)((byte*)&layout.Flags - (byte*)&layout);
        int area = (int)(layout.FxArea - (byte*)&layout);
        var writer = new Writer((byte*)_code.WriteAddress);
        Encoder encoder = Encoder.Create(64, writer);
        foreach (Instruction step in Wrap(instruction, flags, area))
        {
            encoder.Encode(step, (ulong)_code.ExecuteAddress + (ulong)writer.Length);
        }
    }

    // SAFETY: the code keeps the calling convention and touches the state and the instruction's own memory operand only.
    public void Run(CpuState* state) => ((delegate* unmanaged<CpuState*, void>)_code.ExecuteAddress)(state);

    public void Dispose() => _code.Dispose();

    private static List<Instruction> Wrap(Instruction instruction, int flags, int area)
    {
        var code = new List<Instruction>();
        foreach (Register register in Saved)
        {
            code.Add(Instruction.Create(Code.Push_r64, register));
        }

        code.Add(Instruction.Create(Code.Push_r64, Register.RDI));
        code.Add(Instruction.Create(Code.Fxrstor64_m512byte, new MemoryOperand(Register.RDI, area)));
        for (int i = 0; i < UpperHalves; i++)
        {
            Register register = Register.YMM0 + i;
            code.Add(Instruction.Create(Code.VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, register, register, Upper(area, i), 1));
        }

        code.Add(Instruction.Create(Code.Mov_r32_rm32, Register.EAX, new MemoryOperand(Register.RDI, flags)));
        code.Add(Instruction.Create(Code.And_rm32_imm32, Register.EAX, 0x8D5));
        code.Add(Instruction.Create(Code.Push_r64, Register.RAX));
        code.Add(Instruction.Create(Code.Popfq));
        for (Register register = Register.RAX; register <= Register.R15; register++)
        {
            if (register is not (Register.RSP or Register.RDI))
            {
                code.Add(Instruction.Create(Code.Mov_r64_rm64, register, Slot(register)));
            }
        }

        code.Add(Instruction.Create(Code.Mov_r64_rm64, Register.RDI, Slot(Register.RDI)));
        code.Add(instruction);
        code.Add(Instruction.Create(Code.Xchg_rm64_r64, new MemoryOperand(Register.RSP), Register.RDI));
        for (Register register = Register.RAX; register <= Register.R15; register++)
        {
            if (register is not (Register.RSP or Register.RDI))
            {
                code.Add(Instruction.Create(Code.Mov_rm64_r64, Slot(register), register));
            }
        }

        code.Add(Instruction.Create(Code.Pop_r64, Register.RAX));
        code.Add(Instruction.Create(Code.Mov_rm64_r64, Slot(Register.RDI), Register.RAX));
        code.Add(Instruction.Create(Code.Pushfq));
        code.Add(Instruction.Create(Code.Pop_r64, Register.RAX));
        code.Add(Instruction.Create(Code.Mov_rm64_r64, new MemoryOperand(Register.RDI, flags), Register.RAX));
        for (int i = 0; i < UpperHalves; i++)
        {
            code.Add(Instruction.Create(Code.VEX_Vextractf128_xmmm128_ymm_imm8, Upper(area, i), Register.YMM0 + i, 1));
        }

        if (UpperHalves != 0)
        {
            code.Add(Instruction.Create(Code.VEX_Vzeroupper));
        }

        code.Add(Instruction.Create(Code.Fxsave64_m512byte, new MemoryOperand(Register.RDI, area)));
        code.Add(Instruction.Create(Code.Fninit));
        code.Add(Instruction.Create(Code.Pushq_imm32, 0x1F80));
        code.Add(Instruction.Create(Code.Ldmxcsr_m32, new MemoryOperand(Register.RSP)));
        code.Add(Instruction.Create(Code.Pop_r64, Register.RAX));
        for (int i = Saved.Length - 1; i >= 0; i--)
        {
            code.Add(Instruction.Create(Code.Pop_r64, Saved[i]));
        }

        code.Add(Instruction.Create(Code.Retnq));
        return code;
    }

    private static MemoryOperand Upper(int area, int number) =>
        new(Register.RDI, area + CpuState.FxXmm + (16 * number) + CpuState.YmmHighDistance);

    private static MemoryOperand Slot(Register register) => new(Register.RDI, (register - Register.RAX) * 8);

    private sealed class Writer(byte* to) : CodeWriter
    {
        public int Length { get; private set; }

        public override void WriteByte(byte value) => to[Length++] = value;
    }
}
