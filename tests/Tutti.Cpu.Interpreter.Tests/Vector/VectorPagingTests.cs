using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>Vector and x87 operands that cross pages, lie in read-only or absent pages, or at non-canonical addresses.</summary>
public sealed unsafe class VectorPagingTests : IDisposable
{
    private const ulong Boundary = ArenaLayout.Data + ArenaLayout.PageSize;

    private readonly GuestRunner _guest = new();

    public void Dispose() => _guest.Dispose();

    [Fact]
    public void UnalignedMovesCrossPages()
    {
        for (int before = 1; before < 16; before++)
        {
            UInt128 value = new(0x1122_3344_5566_7788UL * (ulong)before, 0x99AA_BBCC_DDEE_FF01);
            *(UInt128*)CpuState.Xmm(_guest.State, 1) = value;
            _guest.State->Gpr[3] = Boundary - (ulong)before;
            Assert.Equal(-1, Run(Instruction.Create(Code.Movups_xmmm128_xmm, new MemoryOperand(Register.RBX), Register.XMM1)));
            Assert.Equal(-1, Run(Instruction.Create(Code.Movdqu_xmm_xmmm128, Register.XMM2, new MemoryOperand(Register.RBX))));
            Assert.Equal(value, *(UInt128*)CpuState.Xmm(_guest.State, 2));
        }
    }

    [Fact]
    public void ScalarAndX87OperandsCrossPages()
    {
        for (int before = 1; before < 8; before++)
        {
            _guest.State->Gpr[3] = Boundary - (ulong)before;
            var operand = new MemoryOperand(Register.RBX);
            *(double*)CpuState.Xmm(_guest.State, 1) = 1.5 * before;
            *(double*)CpuState.Xmm(_guest.State, 2) = 2.0;
            Assert.Equal(-1, Run(Instruction.Create(Code.Movsd_xmmm64_xmm, operand, Register.XMM1)));
            Assert.Equal(-1, Run(Instruction.Create(Code.Mulsd_xmm_xmmm64, Register.XMM2, operand)));
            Assert.Equal(3.0 * before, *(double*)CpuState.Xmm(_guest.State, 2));
            Assert.Equal(-1, Run(Instruction.Create(Code.Fld_m64fp, operand)));
            Assert.Equal(-1, Run(Instruction.Create(Code.Fstp_m80fp, operand)));
            Assert.Equal(-1, Run(Instruction.Create(Code.Fld_m80fp, operand)));
            Assert.Equal(-1, Run(Instruction.Create(Code.Fstp_m64fp, operand)));
            Assert.Equal(-1, Run(Instruction.Create(Code.Movsd_xmm_xmmm64, Register.XMM3, operand)));
            Assert.Equal(1.5 * before, *(double*)CpuState.Xmm(_guest.State, 3));
        }
    }

    [Theory]
    [InlineData(Code.Movups_xmmm128_xmm)]
    [InlineData(Code.Movaps_xmmm128_xmm)]
    [InlineData(Code.Movq_mmm64_mm)]
    [InlineData(Code.Fstp_m64fp)]
    [InlineData(Code.Fnsave_m108byte)]
    [InlineData(Code.Fnstenv_m28byte)]
    [InlineData(Code.Fxsave64_m512byte)]
    [InlineData(Code.Stmxcsr_m32)]
    public void StoresToReadOnlyPagesFaultAndChangeNothing(Code code)
    {
        Assert.Equal(-1, Run(Instruction.Create(Code.Fninit)));
        Assert.Equal(-1, Run(Instruction.Create(Code.Fldpi)));
        _guest.State->Gpr[3] = ArenaLayout.ReadOnly + 64;
        byte[] before = new ReadOnlySpan<byte>(_guest.State->FxArea, 416).ToArray();
        var operand = new MemoryOperand(Register.RBX);
        Instruction store = code switch
        {
            Code.Movups_xmmm128_xmm or Code.Movaps_xmmm128_xmm => Instruction.Create(code, operand, Register.XMM1),
            Code.Movq_mmm64_mm => Instruction.Create(code, operand, Register.MM1),
            _ => Instruction.Create(code, operand),
        };
        Assert.Equal(ExceptionVector.PageFault, Run(store));
        Assert.Equal(PageFaultError.Present | PageFaultError.Write | PageFaultError.User, _guest.State->FaultError);
        Assert.Equal(ArenaLayout.ReadOnly + 64, _guest.State->Cr2);
        Assert.Equal(before, new ReadOnlySpan<byte>(_guest.State->FxArea, 416).ToArray());
        Assert.True(_guest.Page(ArenaLayout.ReadOnly).IndexOfAnyExcept((byte)0x5A) < 0);
    }

    [Theory]
    [InlineData(Register.RBX, ExceptionVector.GeneralProtection)]
    [InlineData(Register.RBP, ExceptionVector.StackFault)]
    public void NonCanonicalOperandsFaultBySegment(Register register, int vector)
    {
        _guest.State->Gpr[register - Register.RAX] = 0x8000_0000_0000_0000;
        Assert.Equal(vector, Run(Instruction.Create(Code.Paddd_xmm_xmmm128, Register.XMM1, new MemoryOperand(register))));
        Assert.Equal(vector, Run(Instruction.Create(Code.Movups_xmm_xmmm128, Register.XMM1, new MemoryOperand(register))));
        Assert.Equal(vector, Run(Instruction.Create(Code.Fld_m32fp, new MemoryOperand(register))));

        // Alignment is checked first, and is #GP(0) in the stack segment too.
        Assert.Equal(
            ExceptionVector.GeneralProtection,
            Run(Instruction.Create(Code.Movaps_xmm_xmmm128, Register.XMM1, new MemoryOperand(register, 8))));
    }

    [Fact]
    public void MaskedStoreTouchesNoPageOfUnselectedBytes()
    {
        // The last 8 bytes of a writable page, the rest in the read-only one behind it or in none.
        _guest.State->Gpr[7] = Boundary + ArenaLayout.PageSize - 8;
        *(UInt128*)CpuState.Xmm(_guest.State, 1) = UInt128.MaxValue;
        *(UInt128*)CpuState.Xmm(_guest.State, 2) = 0x8080_8080_8080_8080;
        var store = new Instruction { Code = Code.Maskmovdqu_rDI_xmm_xmm, Op0Kind = OpKind.MemorySegRDI };
        store.SetOpKind(1, OpKind.Register);
        store.SetOpRegister(1, Register.XMM1);
        store.SetOpKind(2, OpKind.Register);
        store.SetOpRegister(2, Register.XMM2);
        Assert.Equal(-1, Run(store));
        Assert.Equal(ulong.MaxValue, BitConverter.ToUInt64(_guest.Page(Boundary)[^8..]));
        _guest.Page(Boundary)[^8..].Clear();
        *(UInt128*)CpuState.Xmm(_guest.State, 2) = new UInt128(0x80, 0x80);
        Assert.Equal(ExceptionVector.PageFault, Run(store));
        Assert.Equal(0UL, BitConverter.ToUInt64(_guest.Page(Boundary)[^8..]));
    }

    [Fact]
    public void CacheLineFlushOfAnAbsentPageFaults()
    {
        _guest.State->Gpr[3] = ArenaLayout.Data;
        Assert.Equal(-1, Run(Instruction.Create(Code.Clflush_m8, new MemoryOperand(Register.RBX))));
        _guest.State->Gpr[3] = ArenaLayout.Base - 0x10_0000;
        Assert.Equal(ExceptionVector.PageFault, Run(Instruction.Create(Code.Clflush_m8, new MemoryOperand(Register.RBX))));
    }

    [Theory]
    [InlineData(Register.EBX, ExceptionVector.GeneralProtection)]
    [InlineData(Register.EBP, ExceptionVector.StackFault)]
    public void SegmentLimitsHoldOutside64BitMode(Register register, int vector)
    {
        CpuState* state = _guest.State;
        state->Mode = (state->Mode & ~CodeMode.BitnessMask) | CodeMode.Bits32;
        const ushort Data = SegmentAttributes.Present | SegmentAttributes.NonSystem | SegmentAttributes.WritableOrReadable | SegmentAttributes.Big;
        state->Ds = new Segment { Base = ArenaLayout.Data, Limit = 0xFF, Selector = 0x23, Attributes = Data };
        state->Ss = state->Ds;
        state->Gpr[register - Register.EAX] = 0xF0;
        *(UInt128*)CpuState.Xmm(state, 1) = UInt128.MaxValue;
        var inside = new MemoryOperand(register);
        var across = new MemoryOperand(register, 1);
        Assert.Equal(-1, Run(Instruction.Create(Code.Movups_xmmm128_xmm, inside, Register.XMM1)));
        Assert.Equal(UInt128.MaxValue, BitConverter.ToUInt128(_guest.Page(ArenaLayout.Data)[0xF0..]));
        Assert.Equal(vector, Run(Instruction.Create(Code.Movups_xmmm128_xmm, across, Register.XMM1)));
        Assert.Equal(vector, Run(Instruction.Create(Code.Movups_xmm_xmmm128, Register.XMM1, across)));
        Assert.Equal(vector, Run(Instruction.Create(Code.Pcmpistri_xmm_xmmm128_imm8, Register.XMM1, across, 0)));
        Assert.Equal(-1, Run(Instruction.Create(Code.Fld_m64fp, across)));
        Assert.Equal(0xF1u | (0x23UL << 32), *(ulong*)(state->FxArea + X87Ops.FxData));
        Assert.Equal(-1, Run(Instruction.Create(Code.Addsd_xmm_xmmm64, Register.XMM1, inside)));
        Assert.Equal(-1, Run(Instruction.Create(Code.Paddd_xmm_xmmm128, Register.XMM1, inside)));
    }

    private int Run(in Instruction instruction)
    {
        CpuState* state = _guest.State;
        Op* op = stackalloc Op[2];
        *op = default;
        int bitness = 16 << (int)(state->Mode & CodeMode.BitnessMask);
        Instruction decoded = BareCpu.Decode(instruction, 0x1000, bitness);
        var context = new TranslationContext { Mode = state->Mode, BlockRip = decoded.IP };
        op->Length = (byte)decoded.Length;
        op->Count = 1;
        InstructionTranslator.Translate(decoded, op, ref context);
        state->Rip = decoded.IP;
        state->FaultVector = -1;
        Op* next = op->Handler(state, op);
        Assert.Equal(state->FaultVector >= 0, next == null);
        return state->FaultVector;
    }
}
