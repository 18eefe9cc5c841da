using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>x87, MMX, SSE and the bit-manipulation and crypto extensions.</summary>
internal static unsafe class VectorTranslator
{
    private static readonly Func<Instruction, List<Instruction>> BuildThunk = ThunkBuilder.Build;

    public static bool TryTranslate(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        Code code = instruction.Code;
        if (InstructionForm.Of(code).IsX87 || code == Code.Wait)
        {
            return X87Translator.TryTranslate(instruction, op, context);
        }

        if (code.Encoding() == EncodingKind.VEX && instruction.CpuidFeatures is not ([CpuidFeature.BMI1] or [CpuidFeature.BMI2]))
        {
            return IsOffered(instruction, context) && VexTranslator.TryTranslate(instruction, op, context);
        }

        if (SseMoveTranslator.TryTranslate(instruction, op, context) || PlainTranslator.TryTranslate(instruction, op, context))
        {
            return true;
        }

        return IsOffered(instruction, context) && TryThunk(instruction, op, context);
    }

    /// <summary>Where a vector register (its lower half) or a general one stands in <see cref="CpuState"/>; MMX registers while TOP is 0.</summary>
    public static int OffsetOf(Register register)
    {
        CpuState state;
        int area = (int)(state.FxArea - (byte*)&state);
        if (register.IsXMM() || register.IsYMM())
        {
            return area + CpuState.FxXmm + (16 * VectorNumber(register));
        }

        return register.IsMM() ? area + MmxState.FxRegisters + (16 * (register - Register.MM0)) : RegisterOffset.Of(register);
    }

    /// <summary>0 to 15 for XMM and YMM registers.</summary>
    public static int VectorNumber(Register register) => register.IsYMM() ? register - Register.YMM0 : register - Register.XMM0;

    private static bool IsOffered(in Instruction instruction, in TranslationContext context)
    {
        EncodingKind encoding = instruction.Code.Encoding();
        if (encoding == EncodingKind.VEX)
        {
            // VEX prefixes exist only in protected mode outside virtual-8086.
            if ((context.Mode & (CodeMode.Protected | CodeMode.Virtual8086)) != CodeMode.Protected)
            {
                return false;
            }
        }
        else if (encoding != EncodingKind.Legacy)
        {
            return false;
        }

        bool known = false;
        foreach (CpuidFeature feature in instruction.CpuidFeatures)
        {
            if (!HostFeatures.Has(feature))
            {
                return false;
            }

            known = true;
        }

        return known;
    }

    private static bool TryThunk(in Instruction instruction, Op* op, in TranslationContext context)
    {
        if (!ThunkBuilder.CanBuild(instruction.Code))
        {
            return false;
        }

        Instruction guest = instruction;
        int intoSource = 0;
        if (guest.Code == Code.Insertps_xmm_xmmm32_imm8 && guest.Op1Kind == OpKind.Register)
        {
            // The register form picks a source element, the memory form (which thunks use) has only one.
            intoSource = 4 * (guest.Immediate8 >> 6);
            guest.Immediate8 &= 0x3F;
        }

        byte immediate = 0;
        // SAFETY: of at most four operands the last is an immediate, so that registers have indices 0 to 2.
        int* offsets = stackalloc int[3] { 0, 0, 0 };
        ushort traits = 0;
        for (int i = 0; i < guest.OpCount; i++)
        {
            switch (guest.GetOpKind(i))
            {
                case OpKind.Immediate8:
                    immediate = guest.Immediate8;
                    break;
                case OpKind.Memory:
                    op->Src = (byte)guest.MemorySize.GetSize();
                    traits |= i == 1 ? VectorTraits.MemorySecond : (ushort)0;
                    break;
                default:
                    Register register = guest.GetOpRegister(i);
                    offsets[i] = OffsetOf(register);
                    traits |= register.IsXMM() ? VectorTraits.Sse : register.IsMM() ? VectorTraits.Mmx : (ushort)0;
                    break;
            }
        }

        nint thunk = NativeThunks.Get(new ThunkKey(guest.Code, immediate), guest, BuildThunk);
        if (thunk == 0)
        {
            return false;
        }

        traits |= VectorTable.UsesMxcsr(guest) ? VectorTraits.Mxcsr : (ushort)0;
        traits |= VectorTable.NeedsFlags(guest) ? VectorTraits.FlagsIn : (ushort)0;
        traits |= guest.RflagsModified != RflagsBits.None ? VectorTraits.FlagsOut : (ushort)0;
        traits |= op->Src == 16 && VectorTable.IsAligned(guest.Code) ? VectorTraits.Aligned : (ushort)0;
        traits |= guest.Op0Kind == OpKind.Register && guest.Op0Register.IsMM() ? VectorTraits.MmxResult : (ushort)0;
        op->Flags |= traits;
        op->Imm = (ulong)thunk;
        op->Target = offsets[0] | ((offsets[1] + intoSource) << 16);
        op->Aux = (ushort)offsets[2];
        op->Handler = Handler(traits, op->Src != 0, context.Address);
        return true;
    }

    private static delegate*<CpuState*, Op*, Op*> Handler(ushort traits, bool memory, AddressKind address)
    {
        bool sse = (traits & (VectorTraits.Sse | VectorTraits.Mmx)) == VectorTraits.Sse;
        if (sse && (traits & VectorTraits.Mxcsr) != 0)
        {
            return !memory ? &VectorOps.FloatRegister : address switch
            {
                AddressKind.Flat => &VectorOps.FloatMemory<FlatAddress>,
                AddressKind.Long => &VectorOps.FloatMemory<LongAddress>,
                _ => &VectorOps.FloatMemory<SegmentedAddress>,
            };
        }

        if (sse && (traits & (VectorTraits.FlagsIn | VectorTraits.FlagsOut)) == 0)
        {
            return !memory ? &VectorOps.SseRegister : address switch
            {
                AddressKind.Flat => &VectorOps.SseMemory<FlatAddress>,
                AddressKind.Long => &VectorOps.SseMemory<LongAddress>,
                _ => &VectorOps.SseMemory<SegmentedAddress>,
            };
        }

        return &VectorOps.General;
    }
}
