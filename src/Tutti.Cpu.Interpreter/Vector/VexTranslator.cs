using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>VEX-encoded vector instructions: AVX, AVX2, FMA, F16C and the VEX forms of AES, carry-less products and Galois fields.</summary>
internal static unsafe class VexTranslator
{
    private static readonly Func<Instruction, List<Instruction>> BuildThunk = VexThunkBuilder.Build;

    public static bool TryTranslate(in Instruction instruction, Op* op, in TranslationContext context)
    {
        if (instruction.IsVsib)
        {
            return SetGather(instruction, op);
        }

        switch (instruction.Mnemonic)
        {
            case Mnemonic.Vzeroupper:
                op->Handler = &VexOps.ZeroUpper;
                return true;
            case Mnemonic.Vzeroall:
                op->Handler = &VexOps.ZeroAll;
                return true;
            case Mnemonic.Vldmxcsr:
                op->Handler = &VexOps.LoadMxcsr;
                return true;
            case Mnemonic.Vstmxcsr:
                op->Handler = &VexOps.StoreMxcsr;
                return true;
            case Mnemonic.Vmaskmovdqu:
                op->Handler = &VexMasked.StoreBytes;
                op->Dst = (byte)VectorTranslator.VectorNumber(instruction.Op2Register);
                op->Src = (byte)VectorTranslator.VectorNumber(instruction.Op1Register);
                op->Base = RegisterOffset.Of(Register.RDI);
                return true;
            case Mnemonic.Vmaskmovps or Mnemonic.Vmaskmovpd or Mnemonic.Vpmaskmovd or Mnemonic.Vpmaskmovq:
                return SetMasked(instruction, op);
            default:
                return VexMoves.TrySet(instruction, op, context.Address) || TrySetThunk(instruction, op);
        }
    }

    private static bool TrySetThunk(in Instruction instruction, Op* op)
    {
        byte immediate = 0;
        // SAFETY: instructions have at most four operands, of which immediates are not registers.
        int* offsets = stackalloc int[4] { 0, 0, 0, 0 };
        ushort traits = 0;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            switch (instruction.GetOpKind(i))
            {
                case OpKind.Immediate8:
                    immediate = instruction.Immediate8;
                    break;
                case OpKind.Memory:
                    op->Src = (byte)instruction.MemorySize.GetSize();
                    traits |= (ushort)(i << VexTraits.MemoryShift);
                    break;
                case OpKind.Register:
                    offsets[i] = VectorTranslator.OffsetOf(instruction.GetOpRegister(i));
                    break;
                default:
                    return false;
            }
        }

        nint thunk = NativeThunks.Get(new ThunkKey(instruction.Code, immediate, op->Src != 0), instruction, BuildThunk);
        if (thunk == 0)
        {
            return false;
        }

        bool stores = instruction.Op0Kind == OpKind.Memory;
        traits |= stores ? VexTraits.Store : (ushort)0;
        traits |= VectorTable.UsesMxcsr(instruction) ? VexTraits.Mxcsr : (ushort)0;
        traits |= instruction.RflagsModified != Iced.Intel.RflagsBits.None ? VexTraits.FlagsOut : (ushort)0;
        traits |= op->Src != 0 && VexMoves.IsAligned(instruction.Mnemonic) ? VexTraits.Aligned : (ushort)0;
        traits |= !stores && !instruction.Op0Register.IsGPR() ? VexTraits.VectorFirst : (ushort)0;
        traits |= instruction.Mnemonic == Mnemonic.Vcvtps2ph ? VexTraits.Halves : (ushort)0;
        op->Flags |= traits;
        op->Imm = (ulong)thunk;
        op->Target = offsets[0] | (offsets[1] << 16);
        op->Aux = (ushort)offsets[2];
        bool hasFourth = instruction.OpCount == 4 && instruction.Op3Kind == OpKind.Register;
        op->Dst = hasFourth ? (byte)VectorTranslator.VectorNumber(instruction.Op3Register) : (byte)0;
        op->Handler = &VexOps.Run;
        return true;
    }

    private static bool SetMasked(in Instruction instruction, Op* op)
    {
        bool stores = instruction.Op0Kind == OpKind.Memory;
        int element = instruction.Mnemonic is Mnemonic.Vmaskmovps or Mnemonic.Vpmaskmovd ? 4 : 8;
        op->Dst = (byte)VectorTranslator.VectorNumber(stores ? instruction.Op2Register : instruction.Op0Register);
        op->Aux = (ushort)VectorTranslator.VectorNumber(instruction.Op1Register);
        op->Src = (byte)instruction.Op1Register.GetSize();
        op->Imm = (ulong)element;
        op->Handler = stores ? &VexMasked.Store : &VexMasked.Load;
        return true;
    }

    private static bool SetGather(in Instruction instruction, Op* op)
    {
        int element = instruction.Mnemonic is Mnemonic.Vgatherdps or Mnemonic.Vgatherqps or Mnemonic.Vpgatherdd or Mnemonic.Vpgatherqd ? 4 : 8;
        int index = instruction.Mnemonic is Mnemonic.Vgatherdps or Mnemonic.Vgatherdpd or Mnemonic.Vpgatherdd or Mnemonic.Vpgatherdq ? 4 : 8;
        int count = Math.Min(instruction.MemoryIndex.GetSize() / index, instruction.Op0Register.GetSize() / element);
        op->Dst = (byte)VectorTranslator.VectorNumber(instruction.Op0Register);
        op->Src = (byte)VectorTranslator.VectorNumber(instruction.MemoryIndex);
        op->Aux = (ushort)VectorTranslator.VectorNumber(instruction.Op2Register);
        op->Imm = VexGather.Shape(element, index, count);
        op->Handler = &VexGather.Run;
        return true;
    }
}
