using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Picks the handlers of x87 instructions (opcodes D8 to DF, and 9B).</summary>
internal static unsafe class X87Translator
{
    private static readonly Func<Instruction, List<Instruction>> BuildThunk = ThunkBuilder.BuildX87;

    public static bool TryTranslate(in Instruction instruction, Op* op, in TranslationContext context)
    {
        switch (instruction.Code)
        {
            case Code.Wait:
                op->Handler = &X87Ops.Wait;
                return true;
            case Code.Fnstsw_AX:
                op->Handler = &X87Ops.StoreStatusToAx;
                return true;
            case Code.Fnstsw_m2byte:
                op->Aux = MmxState.FxStatus;
                op->Handler = &X87Ops.StoreWord;
                return true;
            case Code.Fnstcw_m2byte:
                op->Aux = MmxState.FxControl;
                op->Handler = &X87Ops.StoreWord;
                return true;
            case Code.Fneni or Code.Fndisi or Code.Fnsetpm:
                op->Handler = &X87Ops.Nothing;
                return true;
            case Code.Fnstenv_m14byte or Code.Fnstenv_m28byte:
                return SetEnvironment(Code.Fnstenv_m28byte, instruction, op, context, &X87Environment.Store);
            case Code.Fldenv_m14byte or Code.Fldenv_m28byte:
                return SetEnvironment(Code.Fldenv_m28byte, instruction, op, context, &X87Environment.Load);
            case Code.Fnsave_m94byte or Code.Fnsave_m108byte:
                return SetEnvironment(Code.Fnsave_m108byte, instruction, op, context, &X87Environment.Store);
            case Code.Frstor_m94byte or Code.Frstor_m108byte:
                return SetEnvironment(Code.Frstor_m108byte, instruction, op, context, &X87Environment.Load);
            default:
                return TrySetThunk(instruction, op, context);
        }
    }

    private static bool TrySetThunk(in Instruction instruction, Op* op, in TranslationContext context)
    {
        InstructionForm form = InstructionForm.Of(instruction.Code);
        if (form.IsOfAnotherMaker || (!HostFeatures.X8664V2 && instruction.Mnemonic == Mnemonic.Fisttp))
        {
            // Those of the 287 and of other makers.
            return false;
        }

        byte register = 0;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Memory)
            {
                op->Src = (byte)instruction.MemorySize.GetSize();
                op->Dst = form.AccessOf(i) is OpAccess.Write or OpAccess.CondWrite ? (byte)1 : (byte)0;
            }
            else if (instruction.GetOpRegister(i) != Register.ST0)
            {
                register = (byte)(instruction.GetOpRegister(i) - Register.ST0);
            }
        }

        ThunkKey key = new(instruction.Code, register);
        bool isInitialize = instruction.Code == Code.Fninit;
        nint thunk = isInitialize
            ? NativeThunks.Get(key, ThunkBuilder.BuildX87([0xDB, 0xE3]))
            : NativeThunks.Get(key, instruction, BuildThunk);
        if (thunk == 0)
        {
            return false;
        }

        bool control = instruction.Code is Code.Fldcw_m2byte or Code.Fnclex or Code.Fninit or Code.Fnop;
        op->Flags |= form.IsFpuNoWait ? (ushort)0 : X87Ops.Waits;
        op->Flags |= control ? (ushort)0 : X87Ops.Data;
        op->Flags |= isInitialize ? X87Ops.ClearsPointers : (ushort)0;
        // Iced counts C0 to C3, which FNINIT clears, among the flags.
        op->Flags |= !isInitialize && VectorTable.NeedsFlags(instruction) ? VectorTraits.FlagsIn : (ushort)0;
        op->Flags |= !isInitialize && instruction.RflagsModified != RflagsBits.None ? VectorTraits.FlagsOut : (ushort)0;
        op->Imm = (ulong)thunk;
        op->Aux = control ? (ushort)0 : LastOpcode(instruction, context);
        op->Handler = instruction.Code switch
        {
            Code.Fld_m80fp => &X87Stack.Load,
            Code.Fstp_m80fp => &X87Stack.Store,
            Code.Fstp_sti when register == 0 => &X87Stack.Drop,
            Code.Fprem => &X87Stack.Remainder,
            Code.Fprem1 => &X87Stack.NearestRemainder,
            _ => &X87Ops.Run,
        };
        return true;
    }

    /// <summary>The thunk always uses the 32-bit protected format of 64-bit mode; <see cref="X87Environment"/> converts.</summary>
    private static bool SetEnvironment(
        Code code, in Instruction instruction, Op* op, in TranslationContext context, delegate*<CpuState*, Op*, Op*> handler)
    {
        Instruction wide = instruction;
        wide.Code = code;
        nint thunk = NativeThunks.Get(new ThunkKey(code, 0), wide, BuildThunk);
        bool isReal = (context.Mode & (CodeMode.Protected | CodeMode.Virtual8086)) != CodeMode.Protected;
        op->Aux = isReal ? X87Environment.RealFormat : (ushort)0;
        op->Src = (byte)instruction.MemorySize.GetSize();
        op->Imm = (ulong)thunk;
        op->Handler = handler;
        return thunk != 0;
    }

    /// <summary>
    /// FOP: the low bits of the first opcode byte, then the ModRM byte. The decoder keeps no bytes, so the instruction is
    /// encoded again; where an assembler had a choice (a longer displacement), ModRM may differ from the original's.
    /// </summary>
    private static ushort LastOpcode(in Instruction instruction, in TranslationContext context)
    {
        int bitness = 16 << (int)(context.Mode & CodeMode.BitnessMask);
        var writer = new LastBytes();
        if (!Encoder.Create(bitness, writer).TryEncode(instruction, instruction.IP, out _, out _))
        {
            return 0;
        }

        return writer.LastOpcode;
    }

    private sealed class LastBytes : CodeWriter
    {
        private byte _opcode;
        private bool _hasModRm;

        public ushort LastOpcode { get; private set; }

        public override void WriteByte(byte value)
        {
            if (_opcode == 0)
            {
                _opcode = value is >= 0xD8 and <= 0xDF ? value : (byte)0;
            }
            else if (!_hasModRm)
            {
                _hasModRm = true;
                LastOpcode = (ushort)(((_opcode & 7) << 8) | value);
            }
        }
    }
}
